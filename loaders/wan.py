"""Wan transformers from GGUF files: names and shapes decide, never the metadata string or the stored rank.

Accepted: an optional prefix, dimensions of one lost or added, a folded patch embedding, any known type for any tensor.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..ops.packed import PackedWeight
from .gguf import GGUFFile, open_gguf
from .identify import Shapes, WrongModelError, describe_other, identify, wan_prefix
from .restore import check_tensors, recorded_shapes, restore
from .wan_config import wan_config, wan_shapes


@dataclass(frozen=True)
class WanCheckpoint:
    """A Wan transformer. `config` holds the host's WanModel arguments; `tensors` official names and logical shapes."""

    path: Path
    config: dict[str, Any]
    tensors: dict[str, PackedWeight]


def load_wan(path: str | Path) -> WanCheckpoint:
    """Map and validate the file; no tensor data is read. Raises GGUFError, WrongModelError, OSError."""
    file = open_gguf(path)
    config, expected, stored_names = wan_layout(file)
    tensors = {name: restore(file.packed(stored_names[name]), shape) for name, shape in expected.items()}
    return WanCheckpoint(file.path, config, tensors)


def wan_layout(file: GGUFFile) -> tuple[dict[str, Any], Shapes, dict[str, str]]:
    """The model's config, its tensors' logical shapes, and their names in the file. Raises WrongModelError."""
    if identify(file.tensors) != "wan":
        raise WrongModelError(f"{file.path.name}: is {describe_other(file.tensors)}")
    prefix = wan_prefix(file.tensors)
    stored_names = {name[len(prefix) :]: name for name in file.tensors if name.startswith(prefix)}
    shapes = recorded_shapes(file)
    stored = {name: shapes[stored_names[name]] for name in stored_names}
    config = wan_config(stored, file.path.name)
    image_dim = stored.get("img_emb.proj.1.weight", (1280,))[-1]
    expected = wan_shapes(config, image_dim)
    check_tensors(stored, expected, "Wan transformer", file.path.name)
    return config, expected, stored_names
