"""The shape of the innermost product, and of the panels and blocks around it (Goto and van de Geijn, "Anatomy of
High-Performance Matrix Multiplication", 2008, with the roles turned: activations are the packed operand).

    tokens of a tile    lanes x vectors      one register holds `lanes` tokens of one k
    rows of a tile      rows                 one weight is broadcast to all tokens of the tile
    k block             K_BLOCK              decoded weights of a panel stay in the L2 cache
    panel               PANEL_ROWS           rows of the weight that one thread decodes and multiplies

A tile is as large as the registers allow, because every load of a word takes a place in the instruction stream, and
that, not the multipliers, is what runs out first where another hyperthread shares the core.

Every output is one sum in order of k, whatever the tile and the number of tokens or threads: a token gives the same
bits alone and in any batch.
"""

from dataclasses import dataclass

from .machine import machine

K_BLOCK = 256  # one super-block of the K-quants
PANEL_ROWS = 96
ROW_PADDING = 16  # words between decoded rows, a cache line: rows a power of two apart would share sets of the L1 cache
ROW_GROUP = 8  # rows written together; the number of rows of a weight must be a multiple
WIDE_GAIN = 9 / 8  # AVX2: how much faster a token is in a tile of three vectors than of two, about


@dataclass(frozen=True)
class Tile:
    """One product held in registers: (rows, lanes * vectors) sums."""

    lanes: int
    vectors: int
    rows: int
    reread: int = 0  # of the vectors, read again for each row instead of held in a register

    @property
    def tokens(self) -> int:
        """Tokens of a tile."""
        return self.lanes * self.vectors

    def padded(self, tokens: int) -> int:
        """Tokens in whole tiles."""
        return -(-tokens // self.tokens) * self.tokens


def choose_tile(tokens: int, spare: int = 0) -> Tile:
    """A wide tile for many tokens; for a few, one that wastes less.

    The sums of a tile, its tokens' words, one weight and `spare` more fit the registers: 16 with AVX2, else 32.
    The wide tile just fits the 16; what is spared is taken from the tokens' words.
    """
    lanes = machine().float_lanes
    if tokens <= lanes:
        return Tile(lanes, 1, 8)
    if lanes == 8:
        wide, narrow = Tile(lanes, 3, 4, reread=spare), Tile(lanes, 2, 4)
        return wide if wide.padded(tokens) <= WIDE_GAIN * narrow.padded(tokens) else narrow
    return Tile(lanes, 3, 8)
