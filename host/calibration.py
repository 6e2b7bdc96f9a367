"""Records, while a MODEL samples, what goes into its linear layers and how sensitive its output is to each of them.

Two things of every layer, by which `convert` chooses types and quantises (convert/importance.py says what the file
holds):

* the mean square of every input, over all tokens of the model's own evaluations;
* where probes are asked for, its sensitivity. At some steps the step is computed again with

      y + x Nᵀ        N[n, k] = STRENGTH * root of the mean square of W * a normally distributed random number

  in place of the layer's y, as if its weights had an error of that size, and the guided velocities v are compared. The
  error of weights is the same at every step, and so is N; what it does to the latent adds up over the steps as they do:

      sensitivity = |sum over the probed steps of dsigma (v' - v)|² / |sum of dsigma v|² / STRENGTH²

The run itself is not changed by a bit.
"""

import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import comfy.patcher_extension
import folder_paths
import torch
import torch.nn.functional as F  # noqa: N812
from comfy.model_patcher import ModelPatcher
from safetensors.torch import save_file

from ..ops.dequantize import dequantize
from .models import ATTACHMENT

KEY = "wan_gguf_calibration"
SETTINGS_KEY = "wan_gguf.calibration"  # of the file's metadata
SENSITIVITY_END = ".sensitivity"
STRENGTH = 0.05  # about the error of Q4_K; outputs still change in proportion
_Wrappers = comfy.patcher_extension.WrappersMP


def record_importance(
    model: ModelPatcher, filename_prefix: str, probed_steps: int, sigma_min: float = 0.0, sigma_max: float = 1.0
) -> ModelPatcher:
    """The MODEL that, whenever it samples, also writes a file into the output folder.

    Only evaluations with sigma_min <= sigma <= sigma_max count. `probed_steps` of them, spread evenly, are computed
    again for each layer; 0 leaves sensitivities out. Raises ValueError for settings that cannot be.
    """
    if not 0 <= sigma_min < sigma_max <= 1:
        raise ValueError(f"sigma_min, sigma_max: got {sigma_min:g}, {sigma_max:g}; 0 <= min < max <= 1 is allowed")
    _output_path(filename_prefix)

    def sample(executor: Any, noise: torch.Tensor, latent: Any, sampler: Any, sigmas: torch.Tensor, *rest, **named):
        guider = executor.class_obj
        recording = Recording(guider.model_patcher.model.diffusion_model, sigmas, probed_steps, sigma_min, sigma_max)
        comfy.patcher_extension.add_wrapper_with_key(  # the host made these options for this run
            _Wrappers.PREDICT_NOISE, KEY, recording.predict, guider.model_options, is_model_options=True
        )
        sampled = executor(noise, latent, sampler, sigmas, *rest, **named)
        settings = {**guider.model_patcher.attachments.get(ATTACHMENT, {}), **recording.settings()}
        recording.save(_output_path(filename_prefix), settings)
        return sampled

    recorded = model.clone()
    recorded.add_wrapper_with_key(_Wrappers.OUTER_SAMPLE, KEY, sample)
    return recorded


def _output_path(prefix: str) -> Path:
    """The next free name in the host's output folder, which refuses what would lead out of it."""
    folder, name, counter, _, _ = folder_paths.get_save_image_path(prefix, folder_paths.get_output_directory())
    return Path(folder) / f"{name}_{counter:05}_.safetensors"


class Recording:
    """One run of one model: sums over its evaluations, and what the probes changed."""

    def __init__(
        self,
        diffusion_model: torch.nn.Module,
        sigmas: torch.Tensor,
        probed_steps: int,
        sigma_min: float,
        sigma_max: float,
    ):
        self.layers = {
            f"{name}.weight": module for name, module in diffusion_model.named_modules() if _is_linear(module)
        }
        self.sigmas = [float(sigma) for sigma in sigmas]
        counted = [i for i, sigma in enumerate(self.sigmas[:-1]) if sigma_min <= sigma <= sigma_max]
        n = min(probed_steps, len(counted))
        self.counted = frozenset(counted)
        self.probed = frozenset(counted[(2 * i + 1) * len(counted) // (2 * n)] for i in range(n))
        self.evaluations = 0
        self._squares: dict[str, torch.Tensor] = {}  # (k,) float64 each
        self._tokens: dict[str, int] = {}
        self._sizes: dict[str, float] = {}  # root of the mean square of W
        self._path: torch.Tensor | float = 0.0  # sum of dsigma v
        self._changes: dict[str, torch.Tensor | float] = dict.fromkeys(self.layers, 0.0)

    def predict(self, executor: Any, x: torch.Tensor, sigma: torch.Tensor, *rest, **named) -> torch.Tensor:
        """In place of the guider's: its own result, counted, and at a probed step compared with those of the probes."""
        at = float(sigma.flatten()[0])
        step = min(range(len(self.sigmas) - 1), key=lambda i: abs(self.sigmas[i] - at))
        if step not in self.counted:
            return executor(x, sigma, *rest, **named)
        with self._counting():
            denoised = executor(x, sigma, *rest, **named)
        self.evaluations += 1
        if step in self.probed:
            self._probe(lambda: executor(x, sigma, *rest, **named), x, denoised, self._weight(step, at))
        return denoised

    def _weight(self, step: int, sigma: float) -> float:
        """dsigma / sigma: v is (x - denoised) / sigma."""
        return (self.sigmas[step] - self.sigmas[step + 1]) / sigma

    def _probe(self, again: Callable[[], torch.Tensor], x: torch.Tensor, denoised: torch.Tensor, weight: float) -> None:
        self._path = self._path + weight * (x - denoised).float().cpu()
        for name, layer in self.layers.items():
            with _disturbed(layer, self._size(name), zlib.crc32(name.encode())):
                change = denoised - again()
            self._changes[name] = self._changes[name] + weight * change.float().cpu()

    def _size(self, name: str) -> float:
        if name not in self._sizes:
            self._sizes[name] = _root_mean_square(self.layers[name])
        return self._sizes[name]

    @contextmanager
    def _counting(self) -> Iterator[None]:
        handles = [
            layer.register_forward_pre_hook(lambda _, inputs, name=name: self._count(name, inputs[0]))
            for name, layer in self.layers.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _count(self, name: str, x: torch.Tensor) -> None:
        tokens = x.detach().reshape(-1, x.shape[-1])
        squares = tokens.float().square().sum(0, dtype=torch.float64)
        self._squares[name] = self._squares[name] + squares if name in self._squares else squares
        self._tokens[name] = self._tokens.get(name, 0) + len(tokens)

    def settings(self) -> dict[str, Any]:
        """What changes the record."""
        steps = [self.sigmas[i] for i in sorted(self.probed)]
        return {"evaluations": self.evaluations, "probed_sigmas": steps, "strength": STRENGTH}

    def save(self, path: Path, settings: dict[str, Any]) -> None:
        """Write the file. Raises ValueError when nothing was recorded."""
        if not self.evaluations:
            raise ValueError(
                "sigma_min, sigma_max: no step of this run lies between them, so nothing was recorded; widen them"
            )
        found = {name: (squares / self._tokens[name]).float().cpu() for name, squares in self._squares.items()}
        if self.probed:
            energy = _energy(self._path)
            for name in self._squares:
                value = _energy(self._changes[name]) / energy / STRENGTH**2
                found[name + SENSITIVITY_END] = torch.tensor([value], dtype=torch.float32)
        partial = path.with_name(path.name + ".part")
        save_file(found, partial, metadata={SETTINGS_KEY: json.dumps(settings)})
        partial.replace(path)


def _is_linear(module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.Linear)


def _energy(values: torch.Tensor) -> float:
    return float(values.double().square().sum())


def _root_mean_square(layer: torch.nn.Module) -> float:
    packed = getattr(layer, "packed", None)
    weight = layer.weight if packed is None else dequantize(packed)
    return float(weight.float().square().mean(dtype=torch.float64)) ** 0.5


@contextmanager
def _disturbed(layer: torch.nn.Linear, size: float, seed: int) -> Iterator[None]:
    """The layer as if its weights had a random error of STRENGTH * size; the same one for the same seed and device."""
    errors: list[torch.Tensor] = []

    def add(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...], y: torch.Tensor) -> torch.Tensor:
        x = inputs[0]
        if not errors:
            generator = torch.Generator(x.device).manual_seed(seed)
            shape = (y.shape[-1], x.shape[-1])
            normal = torch.randn(shape, generator=generator, device=x.device, dtype=torch.float32)
            errors.append((STRENGTH * size * normal).to(x.dtype))
        return y + F.linear(x, errors[0])

    handle = layer.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()
