"""The GGML types and file types that the converter writes. Ids and block sizes are gguf-py's.

A file type ("Q4_K_M") names the mixture of types of a whole file; its base is the type of most matrices.
"""

import math

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

from .errors import ConvertError

PLAIN = ("F32", "F16", "BF16")
FILE_TYPES = (
    "Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_0", "Q4_1", "Q4_K_S", "Q4_K_M", "Q5_0", "Q5_1", "Q5_K_S", "Q5_K_M",
    "Q6_K", "Q8_0", "IQ4_NL", "IQ4_XS", "F16", "BF16", "F32",
)  # fmt: skip


def check_file_type(file_type: str) -> str:
    """The file type in GGML's spelling. Raises ConvertError."""
    found = file_type.upper()
    if found not in FILE_TYPES:
        raise ConvertError(f"type {file_type} is unknown; there are: {', '.join(FILE_TYPES)}")
    return found


def base_type(file_type: str) -> str:
    """Q4_K_M -> Q4_K."""
    return file_type[:-2] if file_type.endswith(("_S", "_M", "_L")) and "_K_" in file_type else file_type


def file_type_id(file_type: str) -> int:
    """llama.cpp's number for general.file_type."""
    return int(LlamaFileType[("ALL_" if file_type == "F32" else "MOSTLY_") + file_type])


def type_id(type_name: str) -> int:
    """ggml.h's number of a type."""
    return int(GGMLQuantizationType[type_name])


def block_size(type_name: str) -> tuple[int, int]:
    """Elements and bytes of a block."""
    return GGML_QUANT_SIZES[GGMLQuantizationType[type_name]]


def tensor_bytes(type_name: str, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor's data. Raises ConvertError when a row is no whole number of blocks."""
    block_elems, block_bytes = block_size(type_name)
    if shape[-1] % block_elems:
        raise ConvertError(
            f"{type_name} row length: got {shape[-1]}; a multiple of {block_elems} is allowed; choose F16 for it"
        )
    return math.prod(shape) // block_elems * block_bytes
