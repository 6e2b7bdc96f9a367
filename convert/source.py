"""Opening a source: its files' tables become the model's own tensors under official names, whatever the dialect.

Accepted: safetensors in one file or in shards, with official, host's or diffusers' names, in F32, F16, BF16 or 8-bit
floats with or without scales; GGUF in any dialect. Names and shapes decide what it is; nothing of the data is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..loaders.diffusers_names import is_diffusers, official_name
from ..loaders.fit import check_tensors, recorded_shapes
from ..loaders.gguf import read_gguf_header
from ..loaders.identify import WrongModelError, describe_other, identify, wan_prefix
from ..loaders.safetensors_header import SafetensorsEntry, read_header, read_tensor_bytes
from ..loaders.umt5_config import SPIECE_KEY, umt5_layout
from ..loaders.wan_config import wan_config, wan_shapes
from ..loaders.wan_names import expert_of
from .errors import ConvertError
from .scales import Scales, is_side_tensor
from .source_files import source_files
from .stored import ITEM_BYTES, StoredTensor
from .umt5_official_names import is_official_umt5, t5_name_of_official


class SourceTensor(Protocol):
    """A tensor that can be converted: `StoredTensor`, or one with something added on the way."""

    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def is_blocks(self) -> bool: ...
    @property
    def row_length(self) -> int: ...
    @property
    def n_rows(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    def rows(self, start: int, stop: int) -> np.ndarray: ...
    def raw_rows(self, start: int, stop: int) -> np.ndarray | None: ...


_MAX_SPIECE_BYTES = 1 << 27


@dataclass(frozen=True)
class Source:
    """A model that can be converted. `kind` is "wan" or "umt5"; `tensors` has official (Wan) or T5's names, in order.

    `metadata` is what the file says of itself: a GGUF's keys or safetensors' free texts. `spiece_model` is the
    serialized tokenizer of a UMT5 encoder, where one was found. `expert` is "high", "low" or None, by the path.
    `loras` says what was merged into it.
    """

    path: Path
    files: tuple[Path, ...]
    kind: str
    config: dict[str, Any]
    tensors: Mapping[str, SourceTensor]
    is_gguf: bool
    metadata: Mapping[str, Any] = field(default_factory=dict)
    spiece_model: bytes | None = None
    expert: str | None = None
    loras: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


def open_source(path: str | Path, tokenizer: Path | None = None) -> Source:
    """`tokenizer` is a spiece.model for an encoder that has none in it or beside it.

    Raises ConvertError, SafetensorsError, GGUFError, WrongModelError (all ValueError), OSError.
    """
    path = Path(path)
    files = source_files(path)
    with files[0].open("rb") as file:
        is_gguf = file.read(4) == b"GGUF"
    source = _open_gguf(path) if is_gguf else _open_safetensors(path, files)
    if source.kind == "umt5":
        return _with_tokenizer(source, tokenizer)
    if tokenizer is not None:
        raise ConvertError(f"{path.name}: is a Wan transformer, which has no tokenizer; leave --tokenizer out")
    return source


def _with_tokenizer(source: Source, tokenizer: Path | None) -> Source:
    """The named tokenizer, else the model's own, else one that lies where repositories have it."""
    folder = source.path if source.path.is_dir() else source.path.parent
    if tokenizer is None:
        if source.spiece_model is not None or "tokenizer.ggml.tokens" in source.metadata:
            return source
        places = [folder / "spiece.model", folder.parent / "tokenizer" / "spiece.model"]
        tokenizer = next((place for place in places if place.is_file()), None)
        if tokenizer is None:
            return source
    if tokenizer.stat().st_size > _MAX_SPIECE_BYTES:
        raise ConvertError(
            f"{tokenizer.name}: has {tokenizer.stat().st_size} bytes; a spiece.model of 5 MB is expected"
        )
    metadata = {key: value for key, value in source.metadata.items() if not key.startswith("tokenizer.")}
    return replace(source, metadata=metadata, spiece_model=tokenizer.read_bytes())


def _open_gguf(path: Path) -> Source:
    header = read_gguf_header(path)
    shapes = recorded_shapes(header)
    stored = {
        name: StoredTensor(path, name, info.format.name, shapes[name], info.offset)
        for name, info in header.tensors.items()
    }
    kind, config, tensors = _model(stored, path.name, is_gguf=True)
    spiece = stored.get(SPIECE_KEY)
    spiece_model = None
    if spiece is not None and "tokenizer.ggml.tokens" not in header.metadata:
        spiece_model = _whole_bytes(spiece, path.name)
    return Source(
        path, (path,), kind, config, tensors, True, header.metadata, spiece_model, expert_of(str(path.absolute()))
    )


def _whole_bytes(spiece: StoredTensor, file_name: str) -> bytes:
    """The tokenizer that a converter without a type for bytes stored as floats."""
    values = spiece.rows(0, spiece.n_rows).reshape(-1)
    if not ((values >= 0) & (values <= 255) & (values == np.round(values))).all():
        raise ConvertError(f"{file_name}: tensor {SPIECE_KEY}: has values other than the whole numbers 0 to 255")
    return values.astype(np.uint8).tobytes()


def _open_safetensors(path: Path, files: list[Path]) -> Source:
    entries: dict[str, tuple[Path, SafetensorsEntry]] = {}
    metadata: dict[str, str] = {}
    for file in files:
        found, texts = read_header(file)
        metadata |= {key: value for key, value in texts.items() if isinstance(value, str)}
        twice = next((name for name in found if name in entries), None)
        if twice is not None:
            raise ConvertError(
                f"{file.name}: tensor {twice} is also in {entries[twice][0].name}; download the parts again"
            )
        entries |= {name: (file, entry) for name, entry in found.items()}
    spiece = entries.pop(SPIECE_KEY, None)
    scales = Scales(entries)
    stored = {name: _plain(name, *entries[name], scales) for name in entries if not is_side_tensor(name)}
    kind, config, tensors = _model(stored, path.name, is_gguf=False)
    spiece_model = read_tensor_bytes(*spiece) if spiece and spiece[1].dtype in ("U8", "I8") else None
    return Source(path, tuple(files), kind, config, tensors, False, metadata, spiece_model, _expert(path))


def _plain(name: str, path: Path, entry: SafetensorsEntry, scales: Scales) -> StoredTensor:
    scale = scales.of(name, entry)
    return StoredTensor(path, name, entry.dtype, entry.shape or (1,), entry.offset, scale)


def _expert(path: Path) -> str | None:
    """By the words of the path; in diffusers' layout `transformer` is the high-noise expert if there are two."""
    folder = path if path.is_dir() else path.parent
    if folder.name == "transformer_2":
        return "low"
    if folder.name == "transformer" and (folder.parent / "transformer_2").is_dir():
        return "high"
    return expert_of(str(path.absolute()))


def _model(
    stored: Mapping[str, StoredTensor], file_name: str, is_gguf: bool
) -> tuple[str, dict[str, Any], dict[str, StoredTensor]]:
    """Kind, config, and the tensors under official names and shapes. Raises WrongModelError, ConvertError."""
    prefix = wan_prefix(stored)
    named = {name[len(prefix) :]: tensor for name, tensor in stored.items() if name.startswith(prefix)}
    if is_diffusers(named):
        named = {official_name(name): tensor for name, tensor in named.items()}
    elif is_official_umt5(named):
        named = {t5_name_of_official(name): tensor for name, tensor in named.items()}
    shapes = {name: tensor.shape for name, tensor in named.items()}
    kind = identify(shapes)
    if kind == "wan":
        config = wan_config(shapes, file_name)
        expected = wan_shapes(config, shapes.get("img_emb.proj.1.weight", (1280,))[-1])
        check_tensors(shapes, expected, "Wan transformer", file_name)
        names = {name: name for name in expected}
    elif kind == "umt5":
        config, umt5_expected, names = umt5_layout(shapes, file_name)
        expected = dict(umt5_expected)
    else:
        raise WrongModelError(f"{file_name}: is {describe_other(shapes)}")
    tensors = {name: _logical(named[names[name]], shape, file_name, is_gguf) for name, shape in expected.items()}
    return kind, config, tensors


def _logical(tensor: StoredTensor, shape: tuple[int, ...], file_name: str, is_gguf: bool) -> StoredTensor:
    """The tensor under its logical shape, of a type that can be read."""
    if tensor.dtype not in ITEM_BYTES and not is_gguf:
        raise ConvertError(
            f"{file_name}: tensor {tensor.name}: dtype {tensor.dtype}; {', '.join(ITEM_BYTES)} are allowed; "
            "use a 16-bit version of this model"
        )
    if tensor.shape == shape:
        return tensor
    return StoredTensor(tensor.path, tensor.name, tensor.dtype, shape, tensor.offset, tensor.scale)
