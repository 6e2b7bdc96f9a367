"""The largest |value| of each row of a weight, of each token and of each column of activations; NaN if there is one."""

from functools import cache

from .formats import DECODERS
from .job import Emitter, build, job_type
from .machine import Kernel, machine
from .numbers import SIZES, load_floats
from .vectors import FLOAT, I32, Pointer, Vector, constants

LANES = 16
STRIP = 64  # columns of one item

# items are rows of the weight; peaks: (rows,) float32
RowPeaksJob = job_type("RowPeaksJob", "source", "row_bytes", "row_blocks", "peaks")
# items are tokens; x: rows of row_bytes; keep: (k,) int32 masks, 0 or -1; peaks: (tokens,) float32
TokenPeaksJob = job_type("TokenPeaksJob", "x", "row_bytes", "k", "keep", "peaks")
# items are strips of columns; peaks: (k,) float32
ColumnPeaksJob = job_type("ColumnPeaksJob", "x", "row_bytes", "m", "peaks")


@cache
def row_peaks_kernel(format_name: str) -> Kernel:
    """For packed rows of one format."""
    decoder = DECODERS[format_name]

    def body(e: Emitter, first: Vector, stop: Vector) -> None:
        with e.loop(first, stop) as row:
            source = e.address("source").at(row.index * e.field("row_bytes"))
            with e.loop(e.number(0), e.field("row_blocks"), carried=(_zeros(e),)) as block:
                peak = block.carried[0]
                for values in decoder.emit(source.at(block.index * decoder.bytes)):
                    peak = peak.maximum(values.abs())
                block.carried = (peak,)
            e.address("peaks").at(row.index * 4).store(block.carried[0].max_lanes())

    return _compile(f"row_peaks_{format_name}", RowPeaksJob, body)


@cache
def token_peaks_kernel(dtype: str) -> Kernel:
    """For tokens of a dtype of numbers.SIZES; columns whose mask is 0 do not count."""

    def body(e: Emitter, first: Vector, stop: Vector) -> None:
        with e.loop(first, stop) as token:
            x = e.address("x").at(token.index * e.field("row_bytes"))
            with e.loop(e.number(0), e.field("k"), LANES, (_zeros(e),)) as k:
                values = load_floats(x.at(k.index * SIZES[dtype]), LANES, dtype)
                mask = e.address("keep").at(k.index * 4).load(I32, LANES)
                kept = (values.bitcast(I32, LANES) & mask).bitcast(FLOAT, LANES)
                k.carried = (k.carried[0].maximum(kept.abs()),)
            e.address("peaks").at(token.index * 4).store(k.carried[0].max_lanes())

    return _compile(f"token_peaks_{dtype}", TokenPeaksJob, body)


@cache
def column_peaks_kernel(dtype: str) -> Kernel:
    """For tokens of a dtype of numbers.SIZES."""

    def body(e: Emitter, first: Vector, stop: Vector) -> None:
        with e.loop(first, stop) as strip:
            x: Pointer = e.address("x").at(strip.index * (STRIP * SIZES[dtype]))
            with e.loop(e.number(0), e.field("m"), 1, (_zeros(e),) * (STRIP // LANES)) as token:
                row = x.at(token.index * e.field("row_bytes"))
                places = [row.at(part * LANES * SIZES[dtype]) for part in range(STRIP // LANES)]
                values = [load_floats(place, LANES, dtype).abs() for place in places]
                token.carried = tuple(a.maximum(b) for a, b in zip(token.carried, values, strict=True))
            for part, peak in enumerate(token.carried):
                e.address("peaks").at(strip.index * (STRIP * 4)).at(part * LANES * 4).store(peak)

    return _compile(f"column_peaks_{dtype}", ColumnPeaksJob, body)


def _zeros(e: Emitter) -> Vector:
    return constants(e.builder, FLOAT, [0.0] * LANES)


def _compile(name, layout, body) -> Kernel:
    return machine().compile(build(name, layout, body), name)
