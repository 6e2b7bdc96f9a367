"""The tensor table: names, shapes, types and places of the tensors, all checked against the type table and the file."""

import math
from dataclasses import dataclass

from .cursor import Cursor, GGUFError
from .geometry import GEOMETRIES, GEOMETRIES_BY_ID, BlockGeometry

MAX_TENSORS = 65536
MAX_NAME_BYTES = 1024  # ggml allows 63; some tools write more
MAX_DIMS = 5  # ggml allows 4; Wan files carry a five-dimensional patch_embedding.weight

# Ids of ggml.h without a file in ops/formats: intermediate results of a computation, integers and doubles, and types
# that gguf-py cannot decode, so that there is nothing to check a decoder against.
OTHER_TYPES = {
    9: "Q8_1", 15: "Q8_K", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 41: "Q1_0", 42: "Q2_0",
}  # fmt: skip
# Ids that ggml.h keeps free because old files carry them.
REMOVED_TYPES = {
    4: "Q4_2", 5: "Q4_3", 31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8", 36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
}  # fmt: skip


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of the file. `shape` is in torch order (slowest first); `offset` counts from the start of the file."""

    name: str
    format: BlockGeometry
    shape: tuple[int, ...]
    offset: int
    nbytes: int


def read_tensor_table(cursor: Cursor, n_tensors: int, alignment: int) -> dict[str, TensorInfo]:
    """Read `n_tensors` entries and place them; raises GGUFError on anything malformed, overlapping or past the end."""
    entries: dict[str, TensorInfo] = {}
    for i in range(n_tensors):
        entry = _entry(cursor, i, alignment)
        if entry.name in entries:
            raise cursor.error(f"tensor {entry.name}", "occurs twice; every tensor must have a unique name")
        entries[entry.name] = entry
    data_start = -(-cursor.at // alignment) * alignment
    placed = {
        entry.name: TensorInfo(entry.name, entry.format, entry.shape, data_start + entry.offset, entry.nbytes)
        for entry in entries.values()
    }
    _check_places(cursor, placed)
    return placed


def _entry(cursor: Cursor, i: int, alignment: int) -> TensorInfo:
    """One entry, its offset still counted from the start of the data section."""
    name = cursor.string(f"tensor {i} name", MAX_NAME_BYTES)
    what = f"tensor {name}"
    if not name:
        raise cursor.error(f"tensor {i} name", "is empty")
    n_dims = cursor.u32(f"{what} (dimensions)")
    if not 1 <= n_dims <= MAX_DIMS:
        raise cursor.error(what, f"has {n_dims} dimensions; 1 to {MAX_DIMS} are allowed")
    ne = [cursor.u64(f"{what} (dimension {d})") for d in range(n_dims)]
    if min(ne) < 1 or math.prod(ne) >= 1 << 60:
        raise cursor.error(what, f"has dimensions {ne}; positive ones with fewer than 2^60 elements are allowed")
    block_format = _format(cursor, what, cursor.u32(f"{what} (type)"))
    offset = cursor.u64(f"{what} (offset)")
    if offset % alignment:
        raise cursor.error(what, f"offset {offset} is not a multiple of the alignment {alignment}")
    try:
        row_bytes = block_format.row_bytes(ne[0])
    except ValueError as error:
        raise cursor.error(what, str(error)) from None
    return TensorInfo(name, block_format, tuple(reversed(ne)), offset, row_bytes * math.prod(ne[1:]))


def _format(cursor: Cursor, what: str, type_id: int) -> BlockGeometry:
    if type_id in GEOMETRIES_BY_ID:
        return GEOMETRIES_BY_ID[type_id]
    allowed = f"the types that work are {', '.join(GEOMETRIES)}"
    remedy = "use the same model in one of these"
    if type_id in OTHER_TYPES:
        raise cursor.error(what, f"type {OTHER_TYPES[type_id]} is not supported; {allowed}", remedy)
    if type_id in REMOVED_TYPES:
        raise cursor.error(what, f"type {REMOVED_TYPES[type_id]} was removed from GGML; {allowed}", remedy)
    raise cursor.error(what, f"type id {type_id} is unknown; {allowed}", "the file is damaged or newer than this pack")


def _check_places(cursor: Cursor, tensors: dict[str, TensorInfo]) -> None:
    size = len(cursor.buffer)
    previous: TensorInfo | None = None
    for info in sorted(tensors.values(), key=lambda info: info.offset):
        if previous is not None and info.offset < previous.offset + previous.nbytes:
            raise cursor.error(
                f"tensor {info.name}",
                f"starts at byte {info.offset}, inside tensor {previous.name}; they may not overlap",
            )
        previous = info
        if info.offset + info.nbytes > size:
            raise _truncated(cursor, info, max(other.offset + other.nbytes for other in tensors.values()))


def _truncated(cursor: Cursor, info: TensorInfo, full_bytes: int) -> GGUFError:
    found = (
        f"ends at byte {info.offset + info.nbytes}; the file has {len(cursor.buffer)} of at least {full_bytes} bytes"
    )
    return cursor.error(f"tensor {info.name}", found, "the download is incomplete or damaged: download the file again")
