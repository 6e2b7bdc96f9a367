"""Block sizes of the GGML types this pack decodes, without torch: reading a header must not wait for its import.

The types are those with a file in ops/formats, which import torch; a test compares both with each other.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class BlockGeometry:
    """One GGML type: its name, its id in ggml.h, and the elements and bytes of a block."""

    name: str
    ggml_type: int
    block_elems: int
    block_bytes: int

    def row_bytes(self, k: int) -> int:
        """Bytes of one row of k elements. Raises ValueError when k is not a multiple of block_elems."""
        if k % self.block_elems:
            raise ValueError(
                f"{self.name} row length: got {k}; a multiple of {self.block_elems} is allowed; "
                f"store this tensor as F16 or F32, or as a type with smaller blocks"
            )
        return k // self.block_elems * self.block_bytes


_TYPES = (  # id, elements and bytes of a block, by ids
    BlockGeometry("F32", 0, 1, 4),
    BlockGeometry("F16", 1, 1, 2),
    BlockGeometry("Q4_0", 2, 32, 18),
    BlockGeometry("Q4_1", 3, 32, 20),
    BlockGeometry("Q5_0", 6, 32, 22),
    BlockGeometry("Q5_1", 7, 32, 24),
    BlockGeometry("Q8_0", 8, 32, 34),
    BlockGeometry("Q2_K", 10, 256, 84),
    BlockGeometry("Q3_K", 11, 256, 110),
    BlockGeometry("Q4_K", 12, 256, 144),
    BlockGeometry("Q5_K", 13, 256, 176),
    BlockGeometry("Q6_K", 14, 256, 210),
    BlockGeometry("IQ2_XXS", 16, 256, 66),
    BlockGeometry("IQ2_XS", 17, 256, 74),
    BlockGeometry("IQ3_XXS", 18, 256, 98),
    BlockGeometry("IQ1_S", 19, 256, 50),
    BlockGeometry("IQ4_NL", 20, 32, 18),
    BlockGeometry("IQ3_S", 21, 256, 110),
    BlockGeometry("IQ2_S", 22, 256, 82),
    BlockGeometry("IQ4_XS", 23, 256, 136),
    BlockGeometry("IQ1_M", 29, 256, 56),
    BlockGeometry("BF16", 30, 1, 2),
    BlockGeometry("TQ1_0", 34, 256, 54),
    BlockGeometry("TQ2_0", 35, 256, 66),
    BlockGeometry("MXFP4", 39, 32, 17),
    BlockGeometry("NVFP4", 40, 64, 36),
)
GEOMETRIES: dict[str, BlockGeometry] = {found.name: found for found in _TYPES}
GEOMETRIES_BY_ID: dict[int, BlockGeometry] = {found.ggml_type: found for found in _TYPES}
