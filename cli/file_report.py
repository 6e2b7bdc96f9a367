"""What `inspect FILE` says: the model, who made the file, its types, and where it belongs; from the header alone."""

import importlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..loaders.describe import ModelFile, describe
from ..loaders.dialect import gguf_dialect
from ..loaders.gguf import GGUFError, read_gguf_header
from ..loaders.safetensors_header import SafetensorsError, read_header
from ..loaders.wan_names import expert_of, is_single, model_name
from .plan_table import saved_plan, table
from .terminal import answer

_PLACES = {  # kind: node, folder
    "wan": ("Wan GGUF Model Loader", "models/diffusion_models"),
    "umt5": ("Wan GGUF Text Encoder Loader", "models/text_encoders"),
    "vae": ("Load VAE", "models/vae"),
}
_SHOWN_KEYS = ("general.license", "wan_gguf.source.files", "wan_gguf.source.sha256", "wan_gguf.loras")


@dataclass(frozen=True)
class FileReport:
    """The answers; `types` is {type: (tensors, bytes)}, the largest first, `problem` is None for a usable file.

    `convert` is a command that makes a usable file of one that is not. `plan` is what a file that was planned for a
    size saves.
    """

    path: Path
    nbytes: int
    summary: str
    kind: str
    model: str | None = None
    expert: str | None = None
    dialect: str | None = None
    node: str | None = None
    folder: str | None = None
    problem: str | None = None
    convert: str | None = None
    n_tensors: int = 0
    types: dict[str, tuple[int, int]] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] | None = None


def report(path: Path) -> FileReport:
    """Bad files are described too. Raises OSError for one that cannot be read."""
    nbytes = path.stat().st_size
    found = describe(path)
    dialect, tensors, metadata = _table(path)
    node, folder = _PLACES.get(found.kind, (None, None)) if found.problem is None else (None, None)
    types: dict[str, tuple[int, int]] = {}
    counts, sizes = Counter(name for name, _ in tensors), Counter[str]()
    for name, size in tensors:
        sizes[name] += size
    for name, size in sizes.most_common():
        types[name] = counts[name], size
    return FileReport(
        path, nbytes, found.summary, found.kind, *_model(found), dialect, node, folder, found.problem,
        _command(found), len(tensors), types, {key: _plain(metadata[key]) for key in _SHOWN_KEYS if key in metadata},
        saved_plan(metadata),
    )  # fmt: skip


def _table(path: Path) -> tuple[str | None, list[tuple[str, int]], dict[str, Any]]:
    """Dialect, (type, bytes) of every tensor, metadata; nothing of a file whose header cannot be read."""
    try:
        with path.open("rb") as file:
            is_gguf = file.read(4) == b"GGUF"
        if is_gguf:
            header = read_gguf_header(path)
            tensors = [(info.format.name, info.nbytes) for info in header.tensors.values()]
            return gguf_dialect(header), tensors, header.metadata
        entries, texts = read_header(path)
        return "safetensors", [(entry.dtype, entry.nbytes) for entry in entries.values()], dict(texts)
    except (GGUFError, SafetensorsError):
        return None, [], {}


def _model(found: ModelFile) -> tuple[str | None, str | None]:
    """The published model's name, and the expert that the file's name tells."""
    if found.kind != "wan" or not found.config:
        return None, None
    expert = None if is_single(found.config, found.path.name) else expert_of(str(found.path))
    return model_name(found.config), expert


def _command(found: ModelFile) -> str | None:
    """How to convert a file that cannot be used as it is: 8-bit, in diffusers' or the official names, safetensors."""
    if found.problem is None or found.path.suffix.lower() != ".safetensors":
        return None
    # not at the top: most files need none of it, and it takes a third of a second to import
    converter = importlib.import_module("..convert.source", __package__)
    try:
        source = converter.open_source(found.path)
    except (ValueError, OSError):  # no model, or damaged: the problem says so
        return None
    file_type = "Q4_K_M" if source.kind == "wan" else "Q5_K_M"
    return f"python3 cli convert '{found.path.name}' '{found.path.stem}-{file_type}.gguf' --type {file_type}"


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float) else list(value)


def as_text(found: FileReport) -> str:
    """The report for a person."""
    rows = [("file", f"{found.path.name}, {found.nbytes} bytes, {found.n_tensors} tensors"), ("is", found.summary)]
    if found.model:
        expert = f"{found.expert} noise, by the file's name" if found.expert else "not said by the file's name"
        rows += [("model", found.model)] + ([("expert", expert)] if "A14B" in found.model else [])
    rows += [("made by", found.dialect)] if found.dialect else []
    if found.problem:
        rows += [("problem", found.problem)]
        rows += [("convert", found.convert)] if found.convert else []
    elif found.node and found.folder:
        rows += [("node", found.node), ("folder", found.folder)]
    rows += [(key.rpartition(".")[2], ", ".join(value) if isinstance(value, list) else str(value))
             for key, value in found.metadata.items()]  # fmt: skip
    width = max(len(name) for name, _ in rows) + 2
    lines = [f"{name:<{width}}{text}" for name, text in rows]
    for name, (count, nbytes) in found.types.items():
        lines.append(f"  {name:<7} {count:>5} tensors {nbytes / 1e6:>12.1f} MB")
    if found.plan:
        lines.append(table(found.plan))
    return "\n".join(lines)


def as_json(found: FileReport) -> str:
    """The report for a program."""
    types = {name: {"tensors": count, "bytes": nbytes} for name, (count, nbytes) in found.types.items()}
    return json.dumps({**vars(found), "path": str(found.path), "types": types}, ensure_ascii=False)


def run(path: Path, is_json: bool) -> int:
    """Print the report; 1 for a file that this pack cannot use."""
    found = report(path)
    if is_json:
        print(as_json(found))
    else:
        answer(as_text(found))
    return 0 if found.problem is None else 1
