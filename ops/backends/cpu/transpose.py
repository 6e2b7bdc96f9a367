"""Turning small tiles by rounds of interleaving, the way a riffle shuffle turns a deck."""

from .vectors import Vector


def transpose(rows: list[Vector]) -> list[Vector]:
    """2^p vectors of equal lanes -> as many vectors that hold, one after the other, lane 0 of every row, lane 1 ...

    Each round interleaves row i with row i + half; after p rounds the rows of a lane stand together.
    """
    half = len(rows) // 2
    for _ in range(half.bit_length()):
        pairs = [rows[i].interleave(rows[i + half]) for i in range(half)]
        rows = [vector for pair in pairs for vector in pair]
    return rows
