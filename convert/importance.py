"""What counts in a model: of each matrix the mean square of every input, and how sensitive the model is to its errors.

A file of a recorded run (host/calibration.py writes it) is a safetensors file with, for every matrix NAME of the model,

    NAME               (k,) F32   mean square of the layer's input k over all tokens, steps and prompts
    NAME.sensitivity   (1,) F32   energy added to the model's guided output by an error in the layer's weights, both
                                  relative (1: an error of 1 % of the weights gives one of 1 % of the output)

The second ones may be missing. Then, and without a file, a layer counts by its place in a block (PLACES).
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..loaders.safetensors_header import SafetensorsEntry, read_header, read_tensor_bytes
from .container import PlannedTensor, safetensors_layout
from .errors import ConvertError
from .hashes import file_sha256

SENSITIVITY_END = ".sensitivity"
SETTINGS_KEY = "wan_gguf.calibration"  # of the file's metadata: JSON of what was recorded
_BLOCK = re.compile(r"^(?:blocks|encoder\.block)\.\d+\.(?:layer\.\d+\.)?")
# Sensitivities of a Wan block's layers where none were recorded: those of the bundled model over its blocks, relative
# to the feed-forward's, rounded and moved towards 1 (none is below 0.1), because other models will differ.
PLACES = {
    "self_attn.q": 0.1, "self_attn.k": 0.1, "self_attn.v": 0.25, "self_attn.o": 0.25, "cross_attn.q": 0.1,
    "cross_attn.k": 0.1, "cross_attn.v": 0.15, "cross_attn.o": 0.5, "cross_attn.k_img": 0.1, "cross_attn.v_img": 0.15,
    "ffn.0": 1.0, "ffn.2": 1.0,
}  # fmt: skip


def place(name: str) -> str:
    """A matrix's place in its block: blocks.7.self_attn.q.weight -> self_attn.q."""
    return _BLOCK.sub("", name).removesuffix(".weight")


@dataclass(frozen=True)
class Importance:
    """By default nothing is known but the weights. `files` are (name, sha256) of what was read."""

    squares: Mapping[str, np.ndarray] = field(default_factory=dict)
    sensitivities: Mapping[str, float] = field(default_factory=dict)
    files: tuple[tuple[str, str], ...] = ()

    def columns(self, name: str, k: int) -> np.ndarray:
        """(k,) float32 with the mean 1: how much an error in each column counts. Raises ConvertError."""
        if name not in self.squares:
            return np.ones(k, np.float32)
        found = self.squares[name]
        if found.shape != (k,):
            raise ConvertError(
                f"importance of {name}: has {found.size} columns, the matrix {k}; it was recorded with another model; "
                "record it with this one (--calibrate)"
            )
        return found / found.mean(dtype=np.float64).astype(np.float32)

    def sensitivity(self, name: str) -> float:
        """How much a relative error of the matrix counts."""
        return self.sensitivities[name] if self.sensitivities else PLACES.get(place(name), 1.0)

    def record(self) -> dict[str, Any]:
        """What tells, in the converted file, where it is from."""
        if not self.files:
            return {"from": "weights and places"}
        measured = "activations and sensitivities" if self.sensitivities else "activations and places"
        return {"from": measured, "files": dict(self.files)}


def read_importance(paths: Sequence[Path], names: Sequence[str]) -> Importance:
    """The mean of recorded files, for these matrices; each counts the same. Raises ValueError, OSError."""
    squares: dict[str, list[np.ndarray]] = {}
    sensitivities: dict[str, list[float]] = {}
    for path in paths:
        entries, _ = read_header(path)
        missing = next((name for name in names if name not in entries), None)
        if missing is not None:
            raise ConvertError(
                f"{path.name}: has nothing about {missing}; a file that was recorded with this model is allowed; "
                "record it with --calibrate"
            )
        for name in names:
            squares.setdefault(name, []).append(_numbers(path, name, entries[name]))
            if name + SENSITIVITY_END in entries:
                found = _numbers(path, name + SENSITIVITY_END, entries[name + SENSITIVITY_END])
                sensitivities.setdefault(name, []).append(float(found.mean()))
    if len(sensitivities) != len(names):  # of some layers only: not comparable with the others
        sensitivities = {}
    return Importance(
        {name: np.mean(found, axis=0, dtype=np.float64).astype(np.float32) for name, found in squares.items()},
        {name: sum(found) / len(found) for name, found in sensitivities.items()},
        tuple((path.name, file_sha256(path)) for path in paths),
    )


def _numbers(path: Path, name: str, entry: SafetensorsEntry) -> np.ndarray:
    """(k,) float32, finite, none negative and not all 0. Raises ConvertError."""
    if entry.dtype != "F32" or len(entry.shape) != 1 or not entry.nbytes:
        raise ConvertError(f"{path.name}: tensor {name}: {entry.dtype} of shape {entry.shape}; (k,) F32 is allowed")
    found = np.frombuffer(read_tensor_bytes(path, entry), "<f4")
    if not np.isfinite(found).all() or found.min() < 0 or not found.any():
        raise ConvertError(
            f"{path.name}: tensor {name}: has numbers that are not finite or negative, or only zeros; record it again"
        )
    return found


def merged_file(importance: Importance) -> bytes:
    """A file that reads as this importance."""
    numbers = dict(importance.squares)
    for name, value in importance.sensitivities.items():
        numbers[name + SENSITIVITY_END] = np.array([value], np.float32)
    tensors = [PlannedTensor(name, "", "F32", found.shape) for name, found in numbers.items()]
    texts = {SETTINGS_KEY: json.dumps({"merged": dict(importance.files)})}
    head = safetensors_layout(tensors, texts).head
    return head + b"".join(found.astype("<f4").tobytes() for found in numbers.values())
