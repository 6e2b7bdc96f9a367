"""One tensor of a source, read in pieces of rows as float32: plain numbers, 8-bit floats with scales, GGUF blocks.

Files are read, not mapped: the pages of a mapped file would count as this program's memory until all of it is read.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, quants

from .errors import ConvertError
from .ggml_types import block_size

# safetensors dtypes of numbers; GGUF has names of its own for the first three, which are the same
ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}


def _e4m3_values() -> np.ndarray:
    """(256,) float32. float8_e4m3fn: sign, 4 bits of exponent with bias 7, 3 of mantissa; no infinity, one NaN."""
    codes = np.arange(256)
    exponent, mantissa = codes >> 3 & 15, codes & 7
    normal = np.ldexp(1 + mantissa / 8, exponent - 7)
    values = np.where(exponent == 0, np.ldexp(mantissa / 8, -6), normal)
    values[codes & 127 == 127] = np.nan
    return np.where(codes & 128, -values, values).astype(np.float32)


_E4M3 = _e4m3_values()


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies and what its numbers are. `dtype` is a key of ITEM_BYTES or a GGML type.

    `shape` is the logical one. `scale`, for 8-bit floats, has one number for all rows or one for each.
    """

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    scale: np.ndarray | None = None

    @property
    def is_blocks(self) -> bool:
        """Whether it is of a GGML type that packs several numbers into a block."""
        return self.dtype not in ITEM_BYTES

    @property
    def row_length(self) -> int:
        """Numbers in a row."""
        return self.shape[-1]

    @property
    def n_rows(self) -> int:
        """Rows, of all dimensions but the last."""
        return math.prod(self.shape[:-1])

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self._bytes(math.prod(self.shape))

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows start..stop -> (stop - start, row_length) float32. Raises ConvertError, OSError."""
        k = self.row_length
        values = self._decode(start * k, stop * k).reshape(stop - start, k)
        if self.scale is None:
            return values
        return values * (self.scale if self.scale.size == 1 else self.scale[start:stop, None])

    def raw_rows(self, start: int, stop: int) -> np.ndarray | None:
        """The bytes of rows start..stop as they are, or None where rows are no whole blocks."""
        block_elems, _ = self._block()
        k = self.row_length
        return None if k % block_elems else self._read(self._bytes(start * k), self._bytes(stop * k))

    def _block(self) -> tuple[int, int]:
        if self.dtype in ITEM_BYTES:
            return 1, ITEM_BYTES[self.dtype]
        return block_size(self.dtype)

    def _bytes(self, n_elements: int) -> int:
        block_elems, block_bytes = self._block()
        return n_elements // block_elems * block_bytes

    def _decode(self, start: int, stop: int) -> np.ndarray:
        """Elements start..stop in float32; blocks that reach over either end are decoded and cut."""
        block_elems, _ = self._block()
        first = start - start % block_elems
        end = stop + -stop % block_elems
        raw = self._read(self._bytes(first), self._bytes(end))
        return _numbers(raw, self.dtype)[start - first : stop - first]

    def _read(self, start: int, stop: int) -> np.ndarray:
        raw = np.empty(stop - start, np.uint8)
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.offset + start)
            got = 0
            while got < len(raw):
                count = file.readinto(raw.data[got:])
                if not count:
                    raise ConvertError(
                        f"{self.path.name}: tensor {self.name}: the file became shorter while it was read"
                    )
                got += count
        return raw


def _numbers(raw: np.ndarray, dtype: str) -> np.ndarray:
    """(nbytes,) uint8 -> (n,) float32."""
    if dtype == "F32":
        return raw.view("<f4")
    if dtype == "F16":
        return raw.view("<f2").astype(np.float32)
    if dtype == "BF16":
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    if dtype == "F8_E4M3":
        return _E4M3[raw]
    if dtype == "F8_E5M2":  # the upper byte of an F16
        return (raw.astype(np.uint16) << 8).view(np.float16).astype(np.float32)
    return quants.dequantize(raw, GGMLQuantizationType[dtype]).reshape(-1)
