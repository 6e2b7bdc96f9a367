"""Videos of the reference model for `quality.py`, in this process, through the pack's own loader, sampler and decode.

The text is encoded once and shared by all transformers. What a batch of videos depends on is its key: the contents of
the three model files, prompts, seed, settings, dtype, mode, threads and torch. The pack's own code is not part of it.
Importing this puts the host on the import path, in its CPU mode. COMFYUI_DIR names it.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

if os.environ["COMFYUI_DIR"] not in sys.path:
    sys.path.insert(0, os.environ["COMFYUI_DIR"])

from comfy.cli_args import args

args.cpu = True

import comfy.sd
import comfy.utils

from wan_gguf.benchmarks.quality_prompts import Batch
from wan_gguf.benchmarks.quality_state import digest, kept_arrays
from wan_gguf.benchmarks.results import say
from wan_gguf.cli.paths import MODEL_FILES
from wan_gguf.convert.hashes import file_sha256
from wan_gguf.host.models import load_diffusion_model
from wan_gguf.host.sampler import sample_latent
from wan_gguf.host.text_encoder import encode_prompt, load_text_encoder
from wan_gguf.host.vae import decode_latent
from wan_gguf.text.clean import clean_prompt
from wan_gguf.text.weights import parse_weights

ENCODER = MODEL_FILES / "wan_reference_umt5_f16.gguf"
VAE = MODEL_FILES / "wan_reference_vae.safetensors"
SAMPLER = {"cfg": 4.0, "shift": 3.0, "solver": "unipc", "cfg_mode": "split"}
MODEL = {"dtype": "fp32", "mode": "exact"}
LATENT = (16, 5, 8, 8)  # of one video: 17 frames of 64x64


@dataclass
class Studio:
    """The text encoder, the VAE and the folder of finished videos. `steps` are the sampler's."""

    folder: Path
    steps: int
    _encoded: dict[str, list] = field(default_factory=dict)

    @cached_property
    def clip(self) -> comfy.sd.CLIP:
        comfy.utils.PROGRESS_BAR_ENABLED = False
        return load_text_encoder(ENCODER)

    @cached_property
    def vae(self) -> comfy.sd.VAE:
        return comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(VAE)))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What changes a video beside the transformer and the prompts."""
        files = {"encoder": file_sha256(ENCODER), "vae": file_sha256(VAE)}
        program = {"threads": torch.get_num_threads(), "torch": torch.__version__}
        return {"steps": self.steps, **SAMPLER, **MODEL, **files, **program}

    def videos(self, files: Mapping[str, Path], batches: list[Batch]) -> dict[str, list[dict[str, np.ndarray]]]:
        """For each file and batch `latents`, (n, 16, 5, 8, 8) float32, and `frames`, (n, 17, 64, 64, 3) uint8.

        Batch by batch: when it is stopped, all files are equally far.
        """
        hashes = {name: file_sha256(path) for name, path in files.items()}
        models = {name: _once(lambda path=path: load_diffusion_model(path, **MODEL)) for name, path in files.items()}
        made: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in files}
        for number, batch in enumerate(batches, 1):
            for name, load in models.items():
                path = self.folder / f"{digest(hashes[name], self.settings, batch.record())}.npz"
                make = partial(self._make, load, batch, f"{name}, batch {number} of {len(batches)}")
                made[name].append(kept_arrays(path, make))
        return made

    @torch.inference_mode()
    def _make(self, load: Callable[[], Any], batch: Batch, what: str) -> dict[str, np.ndarray]:
        begin, n, model = time.perf_counter(), len(batch.prompts), load()
        sampled = sample_latent(
            model=model,
            positive=self._conditioning(batch.prompts),
            negative=self._conditioning((batch.negative,) * n),
            latent={"samples": torch.zeros(n, *LATENT)},
            seed=batch.seed,
            steps=self.steps,
            **SAMPLER,
        )
        frames = decode_latent(self.vae, sampled).unflatten(0, (n, -1))
        say(f"{what}: {n} videos in {time.perf_counter() - begin:.1f} s")
        return {
            "latents": sampled["samples"].float().cpu().numpy(),
            "frames": (frames * 255).round().to(torch.uint8).cpu().numpy(),
        }

    def _conditioning(self, prompts: tuple[str, ...]) -> list:
        """CONDITIONING of a batch, one text each; every text is encoded once."""
        for prompt in prompts:
            if prompt not in self._encoded:
                self._encoded[prompt] = encode_prompt(self.clip, parse_weights(clean_prompt(prompt)))[0]
        encoded = [self._encoded[prompt] for prompt in prompts]
        return [[torch.cat([one[0] for one in encoded]), encoded[0][1]]]


def _once(make: Callable[[], Any]) -> Callable[[], Any]:
    """The same, made at the first call."""
    made: list[Any] = []

    def get() -> Any:
        if not made:
            made.append(make())
        return made[0]

    return get
