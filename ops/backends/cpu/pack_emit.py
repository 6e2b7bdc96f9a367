"""Activations in the order in which the product reads them: [k block][tile][word][token of the tile].

Mode int8 rounds them on the way: q = round(x * scale), 0 in the columns that are kept apart.
"""

from functools import cache

from .job import Emitter, build, job_type, minimum
from .kinds import WORD_BYTES, Float32, Kind
from .machine import Kernel, machine
from .numbers import SIZES, load_floats
from .tile import K_BLOCK, Tile
from .transpose import transpose
from .vectors import FLOAT, I16, I32, Vector

# items are tiles. x: (m, k) with rows of `row_bytes`; scales: (m,) float32 reciprocals; keep: (k,) int32 masks, 0 or -1
PackJob = job_type("PackJob", "x", "row_bytes", "m", "k_blocks", "tiles", "target", "scales", "keep")
STRIP = 8  # k taken at a time


@cache
def pack_kernel(kind: Kind, tile: Tile, dtype: str) -> Kernel:
    """Packs x of a dtype of numbers.SIZES."""
    words = K_BLOCK // kind.k_per_word
    block_bytes = words * tile.tokens * WORD_BYTES

    def body(e: Emitter, first: Vector, stop: Vector) -> None:
        last_token = e.field("m") - 1
        with e.loop(first, stop) as tile_loop:
            for group in range(tile.vectors):
                tokens = [
                    minimum(tile_loop.index * tile.tokens + (group * tile.lanes + lane), last_token)
                    for lane in range(tile.lanes)  # past the last token: that one again
                ]
                sources = [e.address("x").at(token * e.field("row_bytes")) for token in tokens]
                scales = None
                if not isinstance(kind, Float32):
                    scales = [e.address("scales").at(token * 4).load(FLOAT).splat(STRIP) for token in tokens]
                with e.loop(e.number(0), e.field("k_blocks")) as block:
                    target = e.address("target").at((block.index * e.field("tiles") + tile_loop.index) * block_bytes)
                    with e.loop(e.number(0), e.number(K_BLOCK), STRIP) as k:
                        at = block.index * K_BLOCK + k.index
                        rows = [load_floats(source.at(at * SIZES[dtype]), STRIP, dtype) for source in sources]
                        if scales is not None:
                            keep = e.address("keep").at(at * 4).load(I32, STRIP)
                            rows = [_quantise(row, scale, keep) for row, scale in zip(rows, scales, strict=True)]
                        strip = target.at(k.index * (tile.tokens * WORD_BYTES // kind.k_per_word))
                        _store(strip, transpose(rows), tile, group)

    name = f"pack_{kind.name}_{tile.lanes}x{tile.vectors}_{dtype}"
    return machine().compile(build(name, PackJob, body), name)


def _quantise(row: Vector, scale: Vector, keep: Vector) -> Vector:
    """(8,) float32 -> (4,) words of two 16-bit integers."""
    kept = (row.bitcast(I32, STRIP) & keep).bitcast(FLOAT, STRIP)
    return (kept * scale).round_to_int().trunc(I16).bitcast(I32, STRIP // 2)


def _store(strip, turned: list[Vector], tile: Tile, group: int) -> None:
    """The words of `lanes` tokens, word by word, each to its place in rows of tile.tokens words."""
    lanes_each = turned[0].lanes
    for index, vector in enumerate(turned):
        word, token = divmod(index * lanes_each, tile.lanes)
        if lanes_each <= tile.lanes:
            strip.at((word * tile.tokens + group * tile.lanes + token) * WORD_BYTES).store(vector)
        else:  # one vector holds several words
            for part in range(lanes_each // tile.lanes):
                place = ((word + part) * tile.tokens + group * tile.lanes) * WORD_BYTES
                strip.at(place).store(vector.slice(part * tile.lanes, tile.lanes))
