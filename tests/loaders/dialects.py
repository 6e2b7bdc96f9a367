"""Wan transformers as each converter writes them: which type, shape, name and metadata every tensor gets.

A dialect takes {name: logical shape} and gives the table of a file; the sizes of published files test these rules.

* `city96`: tools/convert.py, lcpp.patch (llama-quantize) and fix_5d_tensors.py of ComfyUI-GGUF; QuantStack, unsloth and
  most others use them. The patch embedding comes back as a true five-dimensional F32 tensor.
* `sd_cpp`: stable-diffusion.cpp's convert mode. No metadata, leading dimensions of one lost, the patch embedding folded
  into four dimensions, everything but embeddings and biases quantised, one-dimensional norms too.
* `calcuis`: the gguf-connector's converter. Architecture "pig", five dimensions of any type, and under
  comfy.gguf.orig_shape the shape of the array it wrote, in bytes where the type is not F32 or F16.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from wan_gguf.ops.formats import FORMATS
from wan_gguf.tests.loaders.build import array, gguf_head, scalar, text

Shapes = Mapping[str, tuple[int, ...]]

FILE_TYPES = {  # llama.cpp's llama_ftype
    "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K_S": 11, "Q3_K_M": 12,
    "Q3_K_L": 13, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_S": 16, "Q5_K_M": 17, "Q6_K": 18, "BF16": 32,
}  # fmt: skip

_KEPT = (
    "modulation.",
    "patch_embedding.",
    "text_embedding.",
    "time_projection.",
    "time_embedding.",
    "img_emb.",
    "head.",
)
_V_TYPES = {"Q2_K": "Q3_K", "Q3_K_L": "Q5_K", "Q4_K_M": "Q6_K", "Q5_K_M": "Q6_K"}
_FFN_2_TYPES = {
    "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K", "Q4_K_S": "Q5_K", "Q4_K_M": "Q6_K", "Q5_K_M": "Q6_K", "Q4_0": "Q4_1",
    "Q5_0": "Q5_1",
}  # fmt: skip
# What a checkpoint in F16, BF16 or F32 turns into; "F32 kept" are files of the converter's first version.
_UNQUANTISED = {"F16": "F16", "BF16": "BF16", "F32": "F16", "F32 kept": "F32"}
_SMALL = 1024  # elements


@dataclass(frozen=True)
class Stored:
    """One tensor of a file. `of` is the model's tensor it holds, None for one that the loader must leave alone."""

    of: str | None
    type_name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class DialectFile:
    """The table and the metadata of a file, {stored name: tensor} and {key: encoded value}."""

    tensors: dict[str, Stored]
    metadata: dict[str, bytes]

    def types(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """{stored name: (type, shape)}, as the functions of build.py take it."""
        return {name: (stored.type_name, stored.shape) for name, stored in self.tensors.items()}

    def nbytes(self) -> int:
        """The length of the file."""
        head, data_bytes = gguf_head(self.types(), self.metadata)
        return len(head) + data_bytes


def base_type(file_type: str) -> str:
    """The type of most matrices: Q4_K_M -> Q4_K."""
    return file_type[:-2] if file_type.endswith(("_S", "_M", "_L")) else file_type


def file_type_keys(architecture: str, file_type: str) -> dict[str, bytes]:
    """The three keys that fix_5d_tensors.py leaves in a file."""
    return {
        "general.architecture": text(architecture),
        "general.quantization_version": scalar("u32", 2),
        "general.file_type": scalar("u32", FILE_TYPES.get(file_type, 0)),
    }


def city96(shapes: Shapes, file_type: str = "Q4_K_M", source: str = "F16") -> DialectFile:
    """`source` is the checkpoint's dtype: F16, BF16, F32, or "F32 kept"."""
    tensors, n_v = {}, 0
    for name, shape in shapes.items():
        type_name = _quantised_type(name, shape, file_type, n_v)
        n_v += ".v.weight" in name
        tensors[name] = Stored(name, type_name or _unquantised_type(name, shape, source), shape)
    return DialectFile(tensors, file_type_keys("wan", file_type))


def _quantised_type(name: str, shape: tuple[int, ...], file_type: str, n_v: int) -> str | None:
    """lcpp.patch's rule; `n_v` tensors named v came before. None: the tensor stays as the checkpoint has it."""
    if file_type not in FILE_TYPES or file_type in _UNQUANTISED:
        return None
    if not name.endswith("weight") or "_norm.weight" in name or len(shape) != 2 or any(s in name for s in _KEPT):
        return None
    type_name = base_type(file_type)
    if ".v.weight" in name:
        if file_type == "Q3_K_M":
            type_name = "Q5_K" if n_v < 2 else "Q4_K"
        elif file_type == "Q4_K_S" and n_v < 4:
            type_name = "Q5_K"
        else:
            type_name = _V_TYPES.get(file_type, type_name)
    elif ".ffn.2.weight" in name:
        type_name = _FFN_2_TYPES.get(file_type, type_name)
    return type_name if shape[-1] % FORMATS[type_name].block_elems == 0 else "F16"


def _unquantised_type(name: str, shape: tuple[int, ...], source: str) -> str:
    """convert.py's rule; only F16 checkpoints have F16 norms."""
    if name == "patch_embedding.weight":
        return "F32"
    is_fine = len(shape) == 1 or math.prod(shape) <= _SMALL or ".modulation" in name
    return "F32" if is_fine and source != "F16" else _UNQUANTISED[source]


def sd_cpp(shapes: Shapes, type_name: str = "Q8_0", source: str = "F32") -> DialectFile:
    """Types by name only; rows that are no whole number of blocks stay as they are."""
    tensors = {}
    for name, shape in shapes.items():
        is_kept = "embedding" in name or name.endswith(".bias") or shape[-1] % FORMATS[type_name].block_elems
        if len(shape) == 5:
            stored_shape = (shape[0] * shape[1], *shape[2:])
        else:
            first = next(i for i, size in enumerate(shape) if size != 1)
            stored_shape = shape[first:]
        tensors[name] = Stored(name, source if is_kept else type_name, stored_shape)
    return DialectFile(tensors, {})


def calcuis(shapes: Shapes, type_name: str = "IQ4_NL", source: str = "BF16", architecture: str = "pig") -> DialectFile:
    """Block matrices in `type_name`; the rest in F32 where small or of the time embedding, else in `source`."""
    tensors, metadata = {}, file_type_keys(architecture, type_name)
    for name, shape in shapes.items():
        is_fine = len(shape) == 1 or math.prod(shape) <= _SMALL or "time_embedding." in name
        kept = "F32" if is_fine and source != "F16" else source
        is_matrix = name.startswith("blocks.") and len(shape) == 2
        tensors[name] = Stored(name, type_name if is_matrix else kept, shape)
        metadata[f"comfy.gguf.orig_shape.{name}"] = array("i32", _written_shape(tensors[name]))
    return DialectFile(tensors, metadata)


def _written_shape(stored: Stored) -> tuple[int, ...]:
    if stored.type_name in ("F32", "F16"):
        return stored.shape
    return (*stored.shape[:-1], FORMATS[stored.type_name].row_bytes(stored.shape[-1]))


def prefixed(file: DialectFile, prefix: str = "model.diffusion_model.", others: bool = True) -> DialectFile:
    """The same under a prefix, as in a checkpoint; `others` adds a tensor of another model of that checkpoint."""
    tensors = {prefix + name: stored for name, stored in file.tensors.items()}
    if others:
        tensors["first_stage_model.conv2.weight"] = Stored(None, "F16", (16, 16, 1, 1, 1))
    marker = "comfy.gguf.orig_shape."
    metadata = {key.replace(marker, marker + prefix): value for key, value in file.metadata.items()}
    return DialectFile(tensors, metadata)


def rearranged(file: DialectFile) -> DialectFile:
    """convert.py's shape_fix: rows that are no multiple of 256 are cut anew for K-quants, the shape kept in a key."""
    tensors, metadata = dict(file.tensors), dict(file.metadata)
    for name, stored in file.tensors.items():
        n_elements = math.prod(stored.shape)
        if len(stored.shape) > 1 and n_elements % 256 == 0 and stored.shape[-1] % 256:
            tensors[name] = replace(stored, shape=(n_elements // 256, 256))
            metadata[f"comfy.gguf.orig_shape.{name}"] = array("i32", stored.shape)
    return DialectFile(tensors, metadata)
