"""LoRA files merged into a source before anything is quantised.

    weight + strength * (alpha / rank) * up @ down + strength * diff        (alpha: the rank where the file has none)
    bias + strength * diff_b

as the host computes them; names in every spelling that `loaders/lora_names.py` knows. Sums are in float64 and rounded
once, so that the machine's matrix library cannot be seen in the file.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..loaders.identify import WrongModelError
from ..loaders.lora_file import LoraFile, read_lora
from ..loaders.lora_names import DOWN, UP, family
from ..loaders.safetensors_header import SafetensorsEntry, read_tensor_bytes
from .errors import ConvertError
from .hashes import file_sha256
from .source import Source, SourceTensor
from .stored import ITEM_BYTES, StoredTensor

_WEIGHT_DIFFERENCES = ("diff", "w_norm")
_BIAS_DIFFERENCES = ("diff_b", "b_norm")
_SCALARS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1"}
_SHOWN = 3  # names in a message


@dataclass(frozen=True)
class Lora:
    """A LoRA file and the strength it is wanted with."""

    path: Path
    strength: float = 1.0


def parse_lora(text: str) -> Lora:
    """ "FILE" or "FILE:0.8"; a colon before no number belongs to the name. Raises ConvertError."""
    name, colon, tail = text.rpartition(":")
    try:
        strength = float(tail) if colon and name else None
    except ValueError:
        strength = None
    if strength is None:
        return Lora(Path(text))
    if not math.isfinite(strength):
        raise ConvertError(f"strength of {name}: got {tail}; a finite number is allowed")
    return Lora(Path(name), strength)


@dataclass(frozen=True)
class Difference:
    """strength * (up @ down), or strength * up where there is no down; flat, in the order of the weight."""

    up: StoredTensor  # (n, rank), or the difference itself
    down: StoredTensor | None  # (rank, k)
    strength: float

    def flat(self, start: int, stop: int) -> np.ndarray:
        """Elements start..stop, float64."""
        if self.down is None:
            k = self.up.row_length
            rows = self.up.rows(start // k, -(-stop // k)).astype(np.float64)
        else:
            k = self.down.row_length
            up = self.up.rows(start // k, -(-stop // k)).astype(np.float64)
            rows = up @ self.down.rows(0, self.down.n_rows).astype(np.float64)
        first = start - start // k * k
        return self.strength * rows.reshape(-1)[first : first + stop - start]


@dataclass(frozen=True)
class MergedTensor:
    """A source's tensor with differences added; otherwise like it."""

    base: SourceTensor
    differences: tuple[Difference, ...]

    @property
    def dtype(self) -> str:
        """The base's."""
        return self.base.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The base's."""
        return self.base.shape

    @property
    def is_blocks(self) -> bool:
        """No: its bytes are not the file's any more."""
        return False

    @property
    def row_length(self) -> int:
        """The base's."""
        return self.base.row_length

    @property
    def n_rows(self) -> int:
        """The base's."""
        return self.base.n_rows

    @property
    def nbytes(self) -> int:
        """The base's."""
        return self.base.nbytes

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows start..stop, float32."""
        k = self.row_length
        total = self.base.rows(start, stop).astype(np.float64)
        for difference in self.differences:
            total += difference.flat(start * k, stop * k).reshape(total.shape)
        return total.astype(np.float32)

    def raw_rows(self, start: int, stop: int) -> np.ndarray | None:
        """None: they are nowhere."""
        return None


def with_loras(source: Source, loras: Sequence[Lora]) -> tuple[Source, list[str]]:
    """The source with all of them merged, and a line about each. Raises ConvertError, WrongModelError, OSError."""
    if source.kind != "wan":
        raise ConvertError(f"{source.path.name}: is a text encoder; a LoRA is merged into a Wan transformer only")
    added: dict[str, list[Difference]] = {}
    lines, used = [], []
    for lora in loras:
        lines.append(_add(added, read_lora(lora.path), source, lora.strength))
        used.append(f"{lora.path.name} strength {lora.strength:g} sha256 {file_sha256(lora.path)}")
    tensors: dict[str, SourceTensor] = dict(source.tensors)
    for name, differences in added.items():
        tensors[name] = MergedTensor(source.tensors[name], tuple(differences))
    return replace(source, tensors=tensors, loras=(*source.loras, *used)), lines


def _add(added: dict[str, list[Difference]], file: LoraFile, source: Source, strength: float) -> str:
    """Put the file's differences under the names of the tensors they are for, and say what was used."""
    fitting, unused = file.in_model(source.tensors)
    if not fitting:
        raise WrongModelError(
            f"{file.path.name}: none of its {len(unused)} tensors belongs to {source.path.name}; it looks like "
            f"{family(unused)} ({_some(unused)}); choose a LoRA made for Wan"
        )
    unused += file.loose
    skipped: list[str] = []
    n_used = 0
    for module, parts in fitting.items():
        found = _differences(file, module, parts, source, strength)
        for name, difference, shape in found:
            wanted = source.tensors[name].shape if name in source.tensors else None
            if wanted is None:
                unused.append(difference.up.name)
            elif shape != _flat_shape(wanted, difference):
                _refuse_in_block(file, module, shape, wanted, source)
                skipped.append(f"{module} is {shape}, the model's {wanted}")
            else:
                added.setdefault(name, []).append(difference)
                n_used += 1
    said = [f"{file.path.name}: {len(fitting)} of {len(file.modules)} modules, {n_used} differences merged"]
    said += [f"skipped for their shape: {_some(skipped)}"] if skipped else []
    said += [f"{len(unused)} tensors unused: {_some(unused)}"] if unused else []
    return ", ".join(said)


def _flat_shape(wanted: tuple[int, ...], difference: Difference) -> tuple[int, ...]:
    """The model's shape in the form in which a difference has its own: pairs are matrices."""
    return wanted if difference.down is None else (wanted[0], math.prod(wanted[1:]))


def _refuse_in_block(
    file: LoraFile, module: str, shape: tuple[int, ...], wanted: tuple[int, ...], source: Source
) -> None:
    """Inside a block shapes depend on the model's size only; outside of them an I2V LoRA may differ on purpose."""
    if module.startswith("blocks."):
        raise WrongModelError(
            f"{file.path.name}: made for a model of another size: {module} is {shape} in it and {wanted} in "
            f"{source.path.name}; choose a LoRA made for this model"
        )


def _differences(
    file: LoraFile, module: str, parts: Mapping[str, str], source: Source, strength: float
) -> list[tuple[str, Difference, tuple[int, ...]]]:
    """(the tensor it is for, the difference, its shape) of all parts of a module. Raises ConvertError."""
    weight = f"{module}.weight" if f"{module}.weight" in source.tensors else module
    found = []
    for part, name in parts.items():
        if part in _WEIGHT_DIFFERENCES or part in _BIAS_DIFFERENCES:
            target = weight if part in _WEIGHT_DIFFERENCES else f"{module}.bias"
            tensor = _stored(file, name, file.entries[name].shape)
            found.append((target, Difference(tensor, None, strength), tensor.shape))
        elif part == UP:
            pair = _pair(file, parts, strength)
            found.append((weight, pair, (pair.up.shape[0], pair.down.shape[1] if pair.down else 0)))
        elif part not in (DOWN, "alpha"):
            raise ConvertError(
                f"{file.path.name}: tensor {name}: parts of kind {part} cannot be merged; low-rank pairs and full "
                "differences can; load this file with the LoRA loader instead"
            )
    return found


def _pair(file: LoraFile, parts: Mapping[str, str], strength: float) -> Difference:
    up, down = file.entries[parts[UP]], file.entries[parts[DOWN]]
    rank = down.shape[0] if down.shape else 0
    if not rank or math.prod(up.shape[1:]) != rank:
        raise ConvertError(f"{file.path.name}: tensor {parts[UP]}: {up.shape} and {down.shape} make no pair")
    alpha = _scalar(file, parts["alpha"]) if "alpha" in parts else rank
    return Difference(
        _stored(file, parts[UP], (up.shape[0], rank)),
        _stored(file, parts[DOWN], (rank, math.prod(down.shape[1:]))),
        strength * alpha / rank,
    )


def _stored(file: LoraFile, name: str, shape: tuple[int, ...]) -> StoredTensor:
    entry = file.entries[name]
    if entry.dtype not in ITEM_BYTES or not shape:
        raise ConvertError(f"{file.path.name}: tensor {name}: dtype {entry.dtype}; {', '.join(ITEM_BYTES)} are allowed")
    return StoredTensor(file.path, name, entry.dtype, shape, entry.offset)


def _scalar(file: LoraFile, name: str) -> float:
    """A single number of any dtype."""
    entry: SafetensorsEntry = file.entries[name]
    if math.prod(entry.shape) != 1 or (entry.dtype not in _SCALARS and entry.dtype != "BF16"):
        found = f"{entry.dtype} of shape {entry.shape}"
        raise ConvertError(f"{file.path.name}: tensor {name}: {found}; one number is allowed")
    if entry.dtype == "BF16":
        return float(StoredTensor(file.path, name, "BF16", (1,), entry.offset).rows(0, 1)[0, 0])
    return float(np.frombuffer(read_tensor_bytes(file.path, entry), _SCALARS[entry.dtype])[0])


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
