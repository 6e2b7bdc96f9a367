"""Reader for GGUF files, versions 2 and 3, little-endian (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).

`GGUFFile` and `open_gguf`, which hand out torch tensors, are imported when first asked for: what reads headers only
(`inspect`, the converter) would wait a second or more for torch.
"""

from typing import TYPE_CHECKING, Any

from .cursor import GGUFError
from .header import GGUFHeader, read_gguf_header
from .metadata import StringArray
from .tensors import TensorInfo

if TYPE_CHECKING:
    from .file import GGUFFile, open_gguf

__all__ = ["GGUFError", "GGUFFile", "GGUFHeader", "StringArray", "TensorInfo", "open_gguf", "read_gguf_header"]


def __getattr__(name: str) -> Any:
    if name not in ("GGUFFile", "open_gguf"):
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from . import file

    return getattr(file, name)
