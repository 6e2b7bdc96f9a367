"""Loads a LoRA file onto a MODEL, whoever's spelling it is in, and says how much of it was used.

Names are turned into the host's own, then the host's loader makes the patches, so the arithmetic is that of its nodes.
"""

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import comfy.lora
import comfy.utils
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher

from ..loaders.identify import WrongModelError
from ..loaders.lora_file import LoraFile, Parts, read_lora
from ..loaders.lora_names import DOWN, UP, family
from ..loaders.safetensors_file import SafetensorsError
from .models import ATTACHMENT

FOLDER_KEY = "loras"
EXTENSIONS = (".safetensors", ".sft")
SHOWN = 3  # names in a message
_ROOT = "diffusion_model."
_WIDTHS = {1536: "Wan2.1 1.3B", 3072: "Wan2.2 TI2V-5B", 5120: "Wan2.1 14B and Wan2.2 A14B"}
Shape = tuple[int, ...]


def list_loras() -> list[str]:
    """File names for the node's list. Pickles (.pt, .ckpt) can run code when opened and are not offered."""
    return [name for name in folder_paths.get_filename_list(FOLDER_KEY) if name.lower().endswith(EXTENSIONS)]


def lora_path(name: str) -> Path:
    """The file of that name. Raises FileNotFoundError (nowhere to be found) or ValueError (not safetensors)."""
    if not name.lower().endswith(EXTENSIONS):
        raise ValueError(f"'{name}' is not a {' or '.join(EXTENSIONS)} file; choose one from the list")
    found = folder_paths.get_full_path(FOLDER_KEY, name)
    if found is None:
        raise FileNotFoundError(f"there is no file '{name}' in models/loras; put it there and refresh the list with R")
    return Path(found)


def refuse_lora(name: str) -> str | None:
    """Why the file of that name cannot be loaded onto any model, or None; reads its header only."""
    try:
        path = lora_path(name)
        read_lora_file(path)
    except (OSError, ValueError) as error:
        return str(error)
    return None


@dataclass
class Coverage:
    """What became of a file's tensors, for a person."""

    file: str
    modules: int  # in the file
    pairs: list[tuple[int, float]] = field(default_factory=list)  # rank, alpha / rank
    differences: int = 0
    skipped: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    used_modules: int = 0

    def __str__(self) -> str:
        """One line, "FILE: 400 of 400 modules, ..."."""
        said = [f"{self.file}: {self.used_modules} of {self.modules} modules"]
        if self.pairs:
            ranks, scales = {rank for rank, _ in self.pairs}, {scale for _, scale in self.pairs}
            said.append(f"{len(self.pairs)} of rank {_span(ranks)} at alpha/rank {_span(scales)}")
        if self.differences:
            said.append(f"{self.differences} full differences")
        if self.skipped:
            said.append(f"skipped for their shape: {_some(self.skipped)}")
        if self.unused:
            said.append(f"{len(self.unused)} tensors unused: {_some(self.unused)}")
        return ", ".join(said)


def load_lora(model: ModelPatcher, path: Path, strength: float) -> tuple[ModelPatcher, str]:
    """A clone of the MODEL with the LoRA at that strength, and the coverage in words; `model` stays as it is.

    Raises WrongModelError when nothing in the file belongs to the model or when it was made for another size.
    """
    lora = read_lora_file(path)
    weights = {name: tuple(value.shape) for name, value in model.model.state_dict().items() if name.startswith(_ROOT)}
    model_name = model.attachments.get(ATTACHMENT, {}).get("model") or type(model.model).__name__
    fitting, strangers = lora.in_model(name.removeprefix(_ROOT) for name in weights)
    if not fitting:
        raise WrongModelError(nothing_fits(path.name, model_name, strangers))
    tensors = comfy.utils.load_torch_file(str(path), safe_load=True)
    coverage = Coverage(path.name, len(lora.modules), unused=[*strangers, *lora.loose])
    _drop_misfits(fitting, tensors, weights, coverage, model_name)
    patched = model.clone()
    for patches in _host_patches(fitting, tensors, weights) if strength else []:
        patched.add_patches(patches, strength)
    _count(fitting, tensors, coverage)
    settings = model.attachments.get(ATTACHMENT, {})
    used = [*settings.get("loras", []), {"file": path.name, "strength": strength}]
    patched.set_attachments(ATTACHMENT, {**settings, "loras": used})
    complete = not coverage.unused and not coverage.skipped
    logging.log(logging.INFO if complete else logging.WARNING, "LoRA %s, strength %s", coverage, strength)
    return patched, str(coverage)


def read_lora_file(path: Path) -> LoraFile:
    """The file's LoRA tensors by module, from its header. Raises ValueError, OSError."""
    if not path.name.lower().endswith(EXTENSIONS):
        raise SafetensorsError(f"{path.name}: only {' or '.join(EXTENSIONS)} LoRA files are opened")
    return read_lora(path)


def nothing_fits(file: str, model_name: str, names: list[str]) -> str:
    return (
        f"{file}: none of its {len(names)} tensors belongs to {model_name}; it looks like {family(names)} "
        f"({_some(names)}); choose a LoRA made for Wan"
    )


def _drop_misfits(
    modules: dict[str, Parts],
    tensors: Mapping[str, torch.Tensor],
    weights: Mapping[str, Shape],
    coverage: Coverage,
    model_name: str,
) -> None:
    """Take parts of another shape out of `modules`; inside a block they are an error.

    A block's shapes depend on the size of the model only. Outside of them they also depend on what goes in and out: an
    I2V model's LoRA, good for T2V otherwise, brings a patch embedding of 36 channels.
    """
    for module, parts in modules.items():
        for part, (found, wanted) in _shapes(module, parts, tensors, weights).items():
            if found == wanted:
                continue
            if wanted is not None and "blocks." in module:
                raise WrongModelError(_other_size(coverage.file, model_name, module, found, wanted, weights))
            if wanted is None:
                coverage.unused.append(parts.pop(part))
                continue
            coverage.skipped.append(f"{module} is {found}, the model's {wanted}")
            for name in (UP, DOWN) if part == UP else (part,):
                parts.pop(name)


def _shapes(
    module: str, parts: Parts, tensors: Mapping[str, torch.Tensor], weights: Mapping[str, Shape]
) -> dict[str, tuple[Shape, Shape | None]]:
    """Part -> (shape it is for, the model's shape, None for a parameter the model lacks); pairs count as UP."""
    key = _key(module, weights)
    found: dict[str, tuple[Shape, Shape | None]] = {}
    for part, key_of_part in (("diff", key), ("diff_b", _bias(key)), ("set_weight", key)):
        if part in parts:
            found[part] = tuple(tensors[parts[part]].shape), weights.get(key_of_part)
    if UP in parts and "lora_mid.weight" not in parts and "reshape_weight" not in parts:
        up, down = tensors[parts[UP]], tensors[parts[DOWN]]
        n, k = weights[key][0], math.prod(weights[key][1:])
        fits = (up.shape[0], math.prod(down.shape[1:])) == (n, k) and math.prod(up.shape[1:]) == down.shape[0]
        found[UP] = weights[key] if fits else (up.shape[0], *down.shape[1:]), weights[key]
    return found


def _other_size(
    file: str, model_name: str, module: str, found: Shape, wanted: Shape, weights: Mapping[str, Shape]
) -> str:
    def named(width: int) -> str:
        return f" ({_WIDTHS[width]})" if width in _WIDTHS else ""

    theirs = named(found[0]) if re.search(r"self_attn\.[qkvo]$", module) else ""
    ours = named(weights.get(f"{_ROOT}blocks.0.self_attn.q.weight", (0,))[0])
    return (
        f"{file}: made for a model of another size: {module} is {found} in it{theirs} and {wanted} in "
        f"{model_name}{ours}; choose a LoRA made for this model"
    )


def _host_patches(
    modules: Mapping[str, Parts], tensors: Mapping[str, torch.Tensor], weights: Mapping[str, Shape]
) -> list[dict]:
    """The host's patches. It keeps one per weight, so a difference beside a pair goes into a second set."""
    sets: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]] = ({}, {})
    for module, parts in modules.items():
        for part, name in parts.items():
            second = part in ("diff", "set_weight") and UP in parts
            sets[second][f"{_ROOT}{module}.{part}"] = tensors[name]
    keys = {_ROOT + module: _key(module, weights) for module in modules}
    return [comfy.lora.load_lora(renamed, keys, log_missing=False) for renamed in sets if renamed]


def _count(modules: Mapping[str, Parts], tensors: Mapping[str, torch.Tensor], coverage: Coverage) -> None:
    for parts in modules.values():
        effective = [part for part in parts if part not in ("alpha", "dora_scale")]
        coverage.used_modules += bool(effective)
        coverage.differences += sum(part in ("diff", "diff_b", "set_weight") for part in effective)
        if not effective:
            coverage.unused += parts.values()
        if UP in parts:
            rank = tensors[parts[DOWN]].shape[0]
            alpha = tensors[parts["alpha"]].item() if "alpha" in parts else rank
            coverage.pairs.append((rank, alpha / rank))


def _key(module: str, weights: Mapping[str, Shape]) -> str:
    """The parameter's name in the model: a module's weight, or the module itself where it is a bare parameter."""
    key = f"{_ROOT}{module}.weight"
    return key if key in weights else _ROOT + module


def _bias(key: str) -> str:
    return key.removesuffix(".weight") + ".bias"


def _span(values: set) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
