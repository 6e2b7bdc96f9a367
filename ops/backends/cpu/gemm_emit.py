"""The fused product: a thread decodes a panel of weights, block by block of k, and multiplies it while it is in cache.

for panel of PANEL_ROWS rows            (taken from the job by the threads)
    for block of K_BLOCK k
        decode the panel's blocks       -> weights, (rows, K_BLOCK) words
        for tile of tokens, for tile.rows rows:  sums += words of x * words of w; a part of the next tile prefetched
    write the panel's outputs           scaled, with bias, turned to (token, row)
"""

from dataclasses import dataclass
from functools import cache

from ...int8 import OUTLIERS
from .formats import DECODERS
from .job import Emitter, Loop, build, job_type, minimum
from .kinds import WORD_BYTES, Kind
from .machine import Kernel, machine
from .numbers import SIZES, store_floats
from .tile import K_BLOCK, PANEL_ROWS, ROW_GROUP, ROW_PADDING, Tile
from .transpose import transpose
from .vectors import FLOAT, I32, I64, Pointer, Vector

# items are panels. x: what pack_emit wrote; bias: (n,) float32; out: (m, n) with rows of out_row_bytes.
# Scratch, per thread: weights PANEL_ROWS blocks of words, sums PANEL_ROWS * tiles * tokens words.
# Mode int8 only: w_scales, w_reciprocals (n,); x_scales (tiles * tokens,); x_outliers (OUTLIERS, tiles * tokens);
# x_offsets (tiles * tokens,) int32, from pack_emit; columns (OUTLIERS,) int64, ascending; column_starts (k_blocks + 1,)
# int64, the first column of each block of k; and per thread: w_outliers (PANEL_ROWS, OUTLIERS), decoded (K_BLOCK,).
INT8_FIELDS = (
    "w_scales", "w_reciprocals", "x_scales", "x_outliers", "columns", "column_starts", "w_outliers", "decoded",
    "x_offsets",
)  # fmt: skip
GemmJob = job_type(
    "GemmJob", "x", "weight", "row_bytes", "n", "m", "k_blocks", "tiles", "bias", "out", "out_row_bytes",
    "weights", "sums",    *INT8_FIELDS,
)  # fmt: skip


@cache
def gemm_kernel(format_name: str, kind: Kind, tile: Tile, dtype: str) -> Kernel:
    """y = x Wᵀ + bias for one format; `dtype` is that of y, one of numbers.SIZES."""
    name = f"gemm_{format_name}_{kind.name}_{tile.lanes}x{tile.vectors}_{dtype}"

    def body(e: Emitter, first: Vector, stop: Vector) -> None:
        with e.loop(first, stop) as index:
            panel = _panel(e, kind, tile, index.index)
            with e.loop(e.number(0), e.field("k_blocks")) as block:
                _decode(e, panel, format_name, block)
                _multiply(e, panel, block)
            _write(e, panel, dtype)

    return machine().compile(build(name, GemmJob, body), name)


@dataclass(frozen=True)
class Panel:
    """The rows a thread works on, and its scratch memory."""

    kind: Kind
    tile: Tile
    first_row: Vector
    rows: Vector
    weights: Pointer
    sums: Pointer
    outliers: Pointer

    @property
    def words(self) -> int:
        """Words of a block of k."""
        return K_BLOCK // self.kind.k_per_word

    @property
    def tile_bytes(self) -> int:
        """Sums of all rows of a panel for one tile of tokens."""
        return PANEL_ROWS * self.tile.tokens * WORD_BYTES


def row_words(kind: Kind) -> int:
    """From one decoded row of a panel to the next."""
    return K_BLOCK // kind.k_per_word + ROW_PADDING


def _panel(e: Emitter, kind: Kind, tile: Tile, index: Vector) -> Panel:
    first_row = index * PANEL_ROWS
    return Panel(
        kind,
        tile,
        first_row,
        minimum(e.field("n") - first_row, e.number(PANEL_ROWS)),
        e.address("weights").at(e.slot * (PANEL_ROWS * row_words(kind) * WORD_BYTES)),
        e.address("sums").at(e.slot * e.field("tiles") * (PANEL_ROWS * tile.tokens * WORD_BYTES)),
        e.address("w_outliers").at(e.slot * (PANEL_ROWS * OUTLIERS * WORD_BYTES)),
    )


def _decode(e: Emitter, panel: Panel, format_name: str, block: Loop) -> None:
    """The panel's weights of one block of k, as words."""
    decoder, kind = DECODERS[format_name], panel.kind
    per_block = K_BLOCK // decoder.elems
    exact = e.address("decoded").at(e.slot * (K_BLOCK * 4))
    with e.loop(e.number(0), panel.rows) as row:
        source = e.address("weight").at((panel.first_row + row.index) * e.field("row_bytes"))
        source = source.at(block.index * (per_block * decoder.bytes))
        target = panel.weights.at(row.index * (row_words(kind) * WORD_BYTES))
        scale = None
        if kind.mode == "int8":
            scale = e.address("w_reciprocals").at((panel.first_row + row.index) * 4).load(FLOAT).splat(16)
        with e.loop(e.number(0), e.number(per_block)) as part:
            values = decoder.emit(source.at(part.index * decoder.bytes))
            place = target.at(part.index * (decoder.elems // kind.k_per_word * WORD_BYTES))
            for index, value in enumerate(values):
                place.at(index * (16 // kind.k_per_word * WORD_BYTES)).store(kind.weight_words(value, scale))
            if kind.mode == "int8":
                store_floats(exact.at(part.index * (decoder.elems * 4)), values, "float32")
        if kind.mode == "int8":
            _keep_outliers(e, exact, panel.outliers.at(row.index * (OUTLIERS * 4)), block)


def _keep_outliers(e: Emitter, exact: Pointer, kept: Pointer, block: Loop) -> None:
    """Of a row's exact weights in this block of k, those of the columns kept apart."""
    starts = e.address("column_starts").at(block.index * 8)
    with e.loop(starts.load(I64), starts.at(8).load(I64)) as slot:
        column = e.address("columns").at(slot.index * 8).load(I64) - block.index * K_BLOCK
        kept.at(slot.index * 4).store(exact.at(column * 4).load(FLOAT))


def _multiply(e: Emitter, panel: Panel, block: Loop) -> None:
    """sums += x * w for the block of k; the first block starts from 0."""
    tile, kind = panel.tile, panel.kind
    is_first = Vector(e.builder, e.builder.icmp_signed("==", block.index.value, e.number(0).value))
    x_block_bytes = panel.words * tile.tokens * WORD_BYTES
    with e.loop(e.number(0), e.field("tiles")) as at_tile:
        x = e.address("x").at((block.index * e.field("tiles") + at_tile.index) * x_block_bytes)
        next_x, share = x.at(x_block_bytes), x_block_bytes // PANEL_ROWS  # a share of it comes with every row
        with e.loop(e.number(0), panel.rows, tile.rows) as row:
            next_x.at(row.index * share).prefetch(tile.rows * share)
            sums = panel.sums.at(at_tile.index * panel.tile_bytes).at(row.index * (tile.tokens * WORD_BYTES))
            weights = panel.weights.at(row.index * (row_words(panel.kind) * WORD_BYTES))
            places = [sums.at(index * tile.lanes * WORD_BYTES) for index in range(tile.rows * tile.vectors)]
            before = [place.load(kind.sum_type, tile.lanes) for place in places]
            begin = tuple(total.like(0).select(is_first, total) for total in before)
            with e.loop(e.number(0), e.number(panel.words), kind.unroll, begin) as word:
                word.carried = _unrolled(panel, x, weights, word)
            for place, total in zip(places, word.carried, strict=True):
                place.store(total)


def _unrolled(panel: Panel, x: Pointer, weights: Pointer, word: Loop) -> tuple[Vector, ...]:
    """kind.unroll words of k for all rows and tokens of a tile."""
    tile, totals = panel.tile, list(word.carried)
    x, weights = x.at(word.index * (tile.tokens * WORD_BYTES)), weights.at(word.index * WORD_BYTES)
    for step in range(panel.kind.unroll):
        places = [x.at((step * tile.tokens + vector * tile.lanes) * WORD_BYTES) for vector in range(tile.vectors)]
        held = [place.load(I32, tile.lanes) for place in places[tile.reread :]]
        for row in range(tile.rows):
            weight = weights.at((row * row_words(panel.kind) + step) * WORD_BYTES).load(I32).splat(tile.lanes)
            columns = [place.load_again(I32, tile.lanes) for place in places[: tile.reread]] + held
            for vector, column in enumerate(columns):
                index = row * tile.vectors + vector
                totals[index] = panel.kind.multiply(totals[index], column, weight)
    return tuple(totals)


def _write(e: Emitter, panel: Panel, dtype: str) -> None:
    """ROW_GROUP rows of a tile at a time: to float32, scaled, plus bias, turned and stored token by token."""
    tile = panel.tile
    with e.loop(e.number(0), e.field("tiles")) as at_tile, e.loop(e.number(0), panel.rows, ROW_GROUP) as row:
        sums = panel.sums.at(at_tile.index * panel.tile_bytes).at(row.index * (tile.tokens * WORD_BYTES))
        target = e.address("out").at((panel.first_row + row.index) * SIZES[dtype])
        with e.loop(e.number(0), e.number(tile.tokens), tile.lanes) as at:
            token = at_tile.index * tile.tokens + at.index
            outputs = _finish(e, panel, _totals(sums.at(at.index * WORD_BYTES), panel), row.index, token)
            _store_tokens(e, target, transpose(outputs), token, tile.lanes, dtype)


def _totals(sums: Pointer, panel: Panel) -> list[Vector]:
    """One vector of tokens of ROW_GROUP rows."""
    tile = panel.tile
    places = [sums.at(row * tile.tokens * WORD_BYTES) for row in range(ROW_GROUP)]
    return [place.load(panel.kind.sum_type, tile.lanes) for place in places]


def _finish(e: Emitter, panel: Panel, totals: list[Vector], row: Vector, token: Vector) -> list[Vector]:
    """ROW_GROUP rows' sums of `lanes` tokens -> their outputs."""
    lanes, first = panel.tile.lanes, panel.first_row + row
    biases = [e.address("bias").at((first + index) * 4).load(FLOAT).splat(lanes) for index in range(ROW_GROUP)]
    if panel.kind.mode == "exact":
        return [total + bias for total, bias in zip(totals, biases, strict=True)]
    if panel.kind.has_offset:
        offset = e.address("x_offsets").at(token * 4).load(I32, lanes)
        totals = [total - offset for total in totals]
    x_scale = e.address("x_scales").at(token * 4).load(FLOAT, lanes)
    scales = [e.address("w_scales").at((first + index) * 4).load(FLOAT).splat(lanes) for index in range(ROW_GROUP)]
    values = [total.to_float() * (x_scale * scale) for total, scale in zip(totals, scales, strict=True)]
    stride, kept = e.field("tiles") * (panel.tile.tokens * 4), panel.outliers.at(row * (OUTLIERS * 4))
    with e.loop(e.number(0), e.number(OUTLIERS), carried=tuple(values)) as slot:
        x = e.address("x_outliers").at(stride * slot.index).at(token * 4).load(FLOAT, lanes)
        places = [kept.at(slot.index * 4).at(index * OUTLIERS * 4) for index in range(ROW_GROUP)]
        weights = [place.load(FLOAT).splat(lanes) for place in places]
        slot.carried = tuple(x.fma(w, value) for w, value in zip(weights, slot.carried, strict=True))
    return [value + bias for value, bias in zip(slot.carried, biases, strict=True)]


def _store_tokens(e: Emitter, out: Pointer, turned: list[Vector], token: Vector, lanes: int, dtype: str) -> None:
    """`turned` holds ROW_GROUP outputs of each of `lanes` tokens; tokens past the last are left out."""
    m, stride = e.field("m"), e.field("out_row_bytes")
    for lane in range(lanes):
        first = lane * ROW_GROUP
        vector, offset = divmod(first, turned[0].lanes)
        pieces = (
            [turned[vector].slice(offset, ROW_GROUP)] if turned[0].lanes >= ROW_GROUP else turned[vector : vector + 2]
        )
        with e.when(e.less(token + lane, m)):
            store_floats(out.at((token + lane) * stride), pieces, dtype)
