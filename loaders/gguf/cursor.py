"""Reading little-endian fields; nothing is read, counted or allocated before its bytes are known to exist."""

import struct
from dataclasses import dataclass, field
from pathlib import Path

MAX_STRING_BYTES = 1 << 26
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class GGUFError(ValueError):
    """A GGUF file that cannot be used; the text is `FILE: FIELD: what was found; what is allowed; what to do`."""


@dataclass
class Cursor:
    """A position in the mapped file. `buffer` is the whole file as bytes-like; methods advance `at`."""

    path: Path
    buffer: memoryview
    at: int = 0
    nested_arrays: int = field(default=0)  # arrays within arrays so far, bounded in metadata.py

    @property
    def left(self) -> int:
        """Bytes between the position and the end of the file."""
        return len(self.buffer) - self.at

    def error(self, what: str, found: str, remedy: str = "download or convert the file again") -> GGUFError:
        """The exception for field `what`; `found` says what was found and what is allowed."""
        return GGUFError(f"{self.path.name}: {what}: {found}; {remedy}")

    def need(self, nbytes: int, what: str) -> None:
        """Raise unless `nbytes` more bytes exist."""
        if nbytes > self.left:
            raise self.error(what, f"needs {nbytes} bytes at byte {self.at}; the file has {self.left} left")

    def u32(self, what: str) -> int:
        """The next unsigned 32-bit integer."""
        self.need(4, what)
        (value,) = _U32.unpack_from(self.buffer, self.at)
        self.at += 4
        return value

    def u64(self, what: str) -> int:
        """The next unsigned 64-bit integer."""
        self.need(8, what)
        (value,) = _U64.unpack_from(self.buffer, self.at)
        self.at += 8
        return value

    def count(self, what: str, min_item_bytes: int, limit: int) -> int:
        """A u64 number of items, at most `limit`, of at least `min_item_bytes` each, that fit in what is left."""
        value = self.u64(what)
        if value > limit:
            raise self.error(what, f"got {value}; at most {limit} is allowed")
        if value * min_item_bytes > self.left:
            raise self.error(
                what, f"got {value} items of at least {min_item_bytes} bytes; the file has {self.left} left"
            )
        return value

    def string(self, what: str, limit: int = MAX_STRING_BYTES) -> str:
        """A u64 length and that many bytes of UTF-8."""
        length = self.u64(f"{what} (length)")
        if length > limit:
            raise self.error(what, f"got a length of {length} bytes; at most {limit} is allowed")
        self.need(length, what)
        raw = self.buffer[self.at : self.at + length]
        self.at += length
        try:
            return str(raw, "utf-8")
        except UnicodeDecodeError as error:
            raise self.error(what, f"is not UTF-8 ({error.reason} at its byte {error.start})") from None
