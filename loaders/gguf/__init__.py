"""Reader for GGUF files, versions 2 and 3, little-endian (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md)."""

from .cursor import GGUFError
from .file import GGUFFile, open_gguf
from .metadata import StringArray
from .tensors import TensorInfo

__all__ = ["GGUFError", "GGUFFile", "StringArray", "TensorInfo", "open_gguf"]
