"""Scales of 8-bit floats in safetensors files, as the host stores them.

A matrix NAME.weight in F8_E4M3 or F8_E5M2 is that times NAME.scale_weight (older, with a marker tensor `scaled_fp8`)
or NAME.weight_scale (now): one number, or one for each row. NAME.scale_input and NAME.input_scale scale what goes in
and NAME.comfy_quant names the format as JSON; they are not weights. Without a scale the numbers are as they are.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..loaders.safetensors_header import SafetensorsEntry, read_tensor_bytes
from .errors import ConvertError
from .stored import ITEM_BYTES, StoredTensor

_SCALE_ENDS = (".scale_weight", ".weight_scale")
_SIDE_ENDS = (*_SCALE_ENDS, ".scale_input", ".input_scale", ".comfy_quant", "scaled_fp8")
_FORMAT_END = ".comfy_quant"
_FORMATS = ("float8_e4m3fn", "float8_e5m2")
_MAX_FORMAT_BYTES = 65536


def is_side_tensor(name: str) -> bool:
    """Whether the tensor says something of another one and is no weight."""
    return name.endswith(_SIDE_ENDS)


class Scales:
    """The scales in a table of {name: (file, entry)}; each is read when asked for."""

    def __init__(self, entries: Mapping[str, tuple[Path, SafetensorsEntry]]):
        self._entries = entries

    def of(self, name: str, entry: SafetensorsEntry) -> np.ndarray | None:
        """(1,) or (rows,) float32, or None for a tensor without. Raises ConvertError."""
        if not name.endswith(".weight"):
            return None
        module = name.removesuffix(".weight")
        self._check_format(module)
        key = next((module + end for end in _SCALE_ENDS if module + end in self._entries), None)
        if key is None:
            return None
        path, found = self._entries[key]
        size = int(np.prod(found.shape, dtype=np.int64))
        if found.dtype not in ITEM_BYTES or size not in (1, *entry.shape[:1]) or len(entry.shape) != 2:
            raise ConvertError(
                f"{path.name}: tensor {key}: {found.dtype} of shape {found.shape} for a weight of shape {entry.shape}; "
                "one number, or one for each row, is allowed; use a 16-bit version of this model"
            )
        scale = StoredTensor(path, key, found.dtype, (1, size), found.offset).rows(0, 1).reshape(-1)
        if not np.isfinite(scale).all():
            raise ConvertError(f"{path.name}: tensor {key}: is not finite; download the file again")
        return scale

    def _check_format(self, module: str) -> None:
        """Raise ConvertError where the host's note names a format other than plain 8-bit floats."""
        if module + _FORMAT_END not in self._entries:
            return
        path, entry = self._entries[module + _FORMAT_END]
        try:
            name = json.loads(read_tensor_bytes(path, entry)[:_MAX_FORMAT_BYTES])["format"]
        except (ValueError, LookupError, TypeError, RecursionError):
            name = "unreadable"
        if name not in _FORMATS:
            raise ConvertError(
                f"{path.name}: tensor {module}.weight: is quantised as {name}; {' and '.join(_FORMATS)} are allowed; "
                "use a 16-bit version of this model"
            )
