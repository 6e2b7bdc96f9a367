"""The shape of the innermost product, and of the panels and blocks around it (Goto and van de Geijn, "Anatomy of
High-Performance Matrix Multiplication", 2008, with the roles turned: activations are the packed operand).

    tokens of a tile    lanes x vectors      one register holds `lanes` tokens of one k
    rows of a tile      rows                 one weight is broadcast to all tokens of the tile
    k block             K_BLOCK              decoded weights of a panel stay in the L2 cache
    panel               PANEL_ROWS           rows of the weight that one thread decodes and multiplies

Every output is one sum in order of k, whatever the tile and the number of tokens or threads: a token gives the same
bits alone and in any batch.
"""

from dataclasses import dataclass

from .machine import machine

K_BLOCK = 256  # one super-block of the K-quants
PANEL_ROWS = 96
ROW_GROUP = 8  # rows written together; the number of rows of a weight must be a multiple


@dataclass(frozen=True)
class Tile:
    """One product held in registers: (rows, lanes * vectors) sums."""

    lanes: int
    vectors: int
    rows: int

    @property
    def tokens(self) -> int:
        """Tokens of a tile."""
        return self.lanes * self.vectors


def choose_tile(tokens: int, spare: int = 0) -> Tile:
    """A wide tile for many tokens; for a few, one that wastes less.

    The sums of a tile, its tokens' words, one weight and `spare` more fit the registers: 16 with AVX2, else 32.
    """
    lanes = machine().float_lanes
    if tokens <= lanes:
        return Tile(lanes, 1, 8)
    if lanes == 8:
        return Tile(lanes, 2 if spare else 3, 4)
    return Tile(lanes, 3, 8)
