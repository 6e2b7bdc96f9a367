"""Activations in the order in which the product reads them: [k block][tile][word][token of the tile].

Mode int8 rounds them on the way: q = round(x * scale), 0 in the columns that are kept apart.
"""

from dataclasses import dataclass
from functools import cache

from .job import Emitter, build, job_type, minimum
from .kinds import OFFSET, WORD_BYTES, Kind
from .machine import Kernel, machine
from .numbers import SIZES, load_floats
from .tile import K_BLOCK, Tile
from .transpose import transpose
from .vectors import FLOAT, I32, Pointer, Vector, constants

# items are tiles. x: (m, k) with rows of `row_bytes`; scales: (m,) float32 reciprocals; keep: (k,) int32, 0 or -1;
# offsets: (tiles * tokens,) int32, written for kinds with an offset: OFFSET times the sum of a token's integers
PackJob = job_type("PackJob", "x", "row_bytes", "m", "k_blocks", "tiles", "target", "scales", "keep", "offsets")


@cache
def pack_kernel(kind: Kind, tile: Tile, dtype: str) -> Kernel:
    """Packs x of a dtype of numbers.SIZES."""

    def body(e: Emitter, first: Vector, stop: Vector) -> None:
        with e.loop(first, stop) as index, e.loop(e.number(0), e.number(tile.tokens), tile.lanes) as lane:
            _pack_group(e, Group(kind, tile, lane.index, dtype, index.index))

    name = f"pack_{kind.name}_{tile.lanes}x{tile.vectors}_{dtype}"
    return machine().compile(build(name, PackJob, body), name)


@dataclass(frozen=True)
class Group:
    """The tokens of one register: those from `lane` on in the tile `index`."""

    kind: Kind
    tile: Tile
    lane: Vector
    dtype: str
    index: Vector

    @property
    def strip(self) -> int:
        """k taken at a time: at least 8, and at least four words."""
        return max(8, 4 * self.kind.k_per_word)

    @property
    def block_bytes(self) -> int:
        """Packed bytes of a tile for one block of k."""
        return K_BLOCK // self.kind.k_per_word * self.tile.tokens * WORD_BYTES

    @property
    def first_token(self) -> Vector:
        """The first of them."""
        return self.index * self.tile.tokens + self.lane


def _pack_group(e: Emitter, group: Group) -> None:
    """All k of some tokens. Past the last token that one is packed again; nobody reads the result."""
    kind, lanes, strip = group.kind, group.tile.lanes, group.strip
    tokens = [minimum(group.first_token + lane, e.field("m") - 1) for lane in range(lanes)]
    sources = [e.address("x").at(token * e.field("row_bytes")) for token in tokens]
    scales = []
    if kind.mode == "int8":
        scales = [e.address("scales").at(token * 4).load(FLOAT).splat(strip) for token in tokens]
    sums = tuple(constants(e.builder, I32, [0] * strip) for _ in tokens) if kind.has_offset else ()
    with e.loop(e.number(0), e.field("k_blocks"), carried=sums) as block:
        place = block.index * e.field("tiles") + group.index
        target = e.address("target").at(place * group.block_bytes)
        with e.loop(e.number(0), e.number(K_BLOCK), strip, block.carried) as k:
            at = block.index * K_BLOCK + k.index
            rows = [load_floats(source.at(at * SIZES[group.dtype]), strip, group.dtype) for source in sources]
            if scales:
                keep = e.address("keep").at(at * 4).load(I32, strip)
                rows = [_quantise(row, scale, keep) for row, scale in zip(rows, scales, strict=True)]
            k.carried = tuple(total + row for total, row in zip(k.carried, rows, strict=False))
            words = [kind.activation_words(row) for row in rows]
            _store(target.at(k.index * (group.tile.tokens * WORD_BYTES // kind.k_per_word)), transpose(words), group)
        block.carried = k.carried
    for lane, total in enumerate(block.carried):
        e.address("offsets").at((group.first_token + lane) * 4).store(total.sum_lanes() * OFFSET)


def _quantise(row: Vector, scale: Vector, keep: Vector) -> Vector:
    """float32 -> 32-bit integers, 0 in the columns kept apart."""
    kept = (row.bitcast(I32, row.lanes) & keep).bitcast(FLOAT, row.lanes)
    return (kept * scale).round_to_int()


def _store(strip: Pointer, turned: list[Vector], group: Group) -> None:
    """The words of `lanes` tokens, word by word, each to its place in rows of tile.tokens words."""
    tile, lanes_each, strip = group.tile, turned[0].lanes, strip.at(group.lane * WORD_BYTES)
    for index, vector in enumerate(turned):
        word, token = divmod(index * lanes_each, tile.lanes)
        if lanes_each <= tile.lanes:
            strip.at((word * tile.tokens + token) * WORD_BYTES).store(vector)
        else:  # one vector holds several words
            for part in range(lanes_each // tile.lanes):
                place = strip.at((word + part) * tile.tokens * WORD_BYTES)
                place.store(vector.slice(part * tile.lanes, tile.lanes))
