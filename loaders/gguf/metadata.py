"""The key-value section: scalars as Python values, number arrays as numpy views, string arrays decoded on demand."""

import struct
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np

from .cursor import MAX_STRING_BYTES, Cursor

MAX_KEY_BYTES = 65535  # the specification's limit
MAX_KEYS = 65536
MAX_STRINGS = 1 << 24  # in one array; the largest vocabularies have under 2^19
MAX_NESTED_ARRAYS = 65536  # in one file
MAX_DEPTH = 4

_BOOL, _STRING, _ARRAY = 7, 8, 9
_NUMBERS = {  # value type: (name, struct code, numpy dtype)
    0: ("u8", "<B", "u1"),
    1: ("i8", "<b", "i1"),
    2: ("u16", "<H", "<u2"),
    3: ("i16", "<h", "<i2"),
    4: ("u32", "<I", "<u4"),
    5: ("i32", "<i", "<i4"),
    6: ("f32", "<f", "<f4"),
    7: ("bool", "<B", "u1"),
    10: ("u64", "<Q", "<u8"),
    11: ("i64", "<q", "<i8"),
    12: ("f64", "<d", "<f8"),
}


class StringArray(Sequence[str]):
    """An array of strings as it lies in the file; all were checked to be UTF-8, each is decoded when asked for."""

    def __init__(self, buffer: memoryview, starts: "array[int]", stops: "array[int]") -> None:
        self._buffer, self._starts, self._stops = buffer, starts, stops

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "StringArray": ...
    def __getitem__(self, index: int | slice) -> "str | StringArray":
        if isinstance(index, slice):
            return StringArray(self._buffer, self._starts[index], self._stops[index])
        return str(self._buffer[self._starts[index] : self._stops[index]], "utf-8")

    def __iter__(self) -> Iterator[str]:
        buffer = self._buffer
        return (str(buffer[start:stop], "utf-8") for start, stop in zip(self._starts, self._stops, strict=True))

    def raw(self) -> Iterator[bytes]:
        """The strings as UTF-8 bytes."""
        buffer = self._buffer
        return (bytes(buffer[start:stop]) for start, stop in zip(self._starts, self._stops, strict=True))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and not isinstance(other, str) and list(self) == list(other)

    def __repr__(self) -> str:
        return f"StringArray({len(self)} strings)"


def read_metadata(cursor: Cursor, n_keys: int) -> dict[str, Any]:
    """Read `n_keys` pairs; raises GGUFError on anything malformed, on empty and on duplicate keys."""
    metadata: dict[str, Any] = {}
    for i in range(n_keys):
        key = cursor.string(f"metadata key {i}", MAX_KEY_BYTES)
        if not key or key in metadata:
            problem = f"{key!r} occurs twice" if key else "is empty"
            raise cursor.error(f"metadata key {i}", f"{problem}; every key must be a unique name")
        value_type = cursor.u32(f"metadata {key} (type)")
        metadata[key] = _value(cursor, f"metadata {key}", value_type, depth=0)
    return metadata


def _value(cursor: Cursor, what: str, value_type: int, depth: int) -> Any:
    if value_type == _STRING:
        return cursor.string(what)
    if value_type == _ARRAY:
        return _array(cursor, what, depth)
    if value_type not in _NUMBERS:
        raise cursor.error(what, f"value type {value_type} is unknown; 0 to 12 are allowed")
    name, code, _ = _NUMBERS[value_type]
    size = struct.calcsize(code)
    cursor.need(size, f"{what} ({name})")
    (value,) = struct.unpack_from(code, cursor.buffer, cursor.at)
    cursor.at += size
    if value_type == _BOOL:
        if value > 1:
            raise cursor.error(what, f"bool is {value}; 0 and 1 are allowed")
        return bool(value)
    return value


def _array(cursor: Cursor, what: str, depth: int) -> Any:
    if depth == MAX_DEPTH:
        raise cursor.error(what, f"arrays are nested deeper than {MAX_DEPTH}")
    item_type = cursor.u32(f"{what} (item type)")
    if item_type in _NUMBERS:
        return _number_array(cursor, what, item_type)
    if item_type == _STRING:
        return _string_array(cursor, what)
    if item_type == _ARRAY:
        count = cursor.count(f"{what} (count)", 12, MAX_NESTED_ARRAYS)
        cursor.nested_arrays += count
        if cursor.nested_arrays > MAX_NESTED_ARRAYS:
            raise cursor.error(what, f"more than {MAX_NESTED_ARRAYS} arrays within arrays")
        return [_array(cursor, f"{what}[{i}]", depth + 1) for i in range(count)]
    raise cursor.error(what, f"item type {item_type} is unknown; 0 to 12 are allowed")


def _number_array(cursor: Cursor, what: str, item_type: int) -> np.ndarray:
    """A read-only view of the file; bools as numpy bool."""
    dtype = np.dtype(_NUMBERS[item_type][2])
    count = cursor.count(f"{what} (count)", dtype.itemsize, 1 << 62)
    values = np.frombuffer(cursor.buffer, dtype, count, cursor.at)
    cursor.at += count * dtype.itemsize
    if item_type == _BOOL:
        if count and values.max() > 1:
            raise cursor.error(what, f"a bool is {values.max()}; 0 and 1 are allowed")
        return values.view(np.bool_)
    return values


def _string_array(cursor: Cursor, what: str) -> StringArray:
    """One pass over lengths and bytes that keeps only offsets: 16 bytes per string."""
    count = cursor.count(f"{what} (count)", 8, MAX_STRINGS)
    starts, stops = array("Q"), array("Q")
    buffer, at, end = cursor.buffer, cursor.at, len(cursor.buffer)
    read_length = struct.Struct("<Q").unpack_from
    for i in range(count):
        if at + 8 > end:
            raise cursor.error(f"{what}[{i}]", f"its length lies at byte {at}; the file ends at {end}")
        (length,) = read_length(buffer, at)
        at += 8
        if length > end - at or length > MAX_STRING_BYTES:
            raise cursor.error(f"{what}[{i}]", f"got a length of {length} bytes; the file has {end - at} left")
        starts.append(at)
        start, at = at, at + length
        stops.append(at)
        try:
            str(buffer[start:at], "utf-8")
        except UnicodeDecodeError as error:
            raise cursor.error(f"{what}[{i}]", f"is not UTF-8 ({error.reason} at its byte {error.start})") from None
    cursor.at = at
    return StringArray(buffer, starts, stops)
