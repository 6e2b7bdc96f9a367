"""Wan transformers from GGUF files: names and shapes decide, never the metadata string or the stored rank.

Accepted: an optional prefix, dimensions of one lost or added, a folded patch embedding, any known type for any tensor.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..ops.packed import PackedWeight
from .gguf import open_gguf
from .restore import restore
from .wan_layout import wan_layout


@dataclass(frozen=True)
class WanCheckpoint:
    """A Wan transformer. `config` holds the host's WanModel arguments; `tensors` official names and logical shapes."""

    path: Path
    config: dict[str, Any]
    tensors: dict[str, PackedWeight]


def load_wan(path: str | Path) -> WanCheckpoint:
    """Map and validate the file; no tensor data is waited for. Raises GGUFError, WrongModelError, OSError."""
    file = open_gguf(path)
    config, expected, stored_names = wan_layout(file)
    file.announce_small()
    tensors = {name: restore(file.packed(stored_names[name]), shape) for name, shape in expected.items()}
    return WanCheckpoint(file.path, config, tensors)
