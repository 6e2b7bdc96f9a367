"""IQ4_NL: 4-bit weights on an uneven scale, one fp16 scale per 32 weights (4.5 bits per weight).

Block, 18 bytes (`block_iq4_nl` in ggml-common.h):

    bytes   field  type       meaning
    0..1    d      fp16       scale
    2..17   qs     16 x u8    low nibble -> weight i, high nibble -> weight i + 16

    w[i] = d * KVALUES[q[i]]     with q[i] in 0..15
"""

import torch

from ..block_format import BlockFormat
from .bits import half_floats, lookup, split_nibbles

# `kvalues_iq4nl` in ggml-common.h
KVALUES = torch.tensor(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=torch.int8, device="cpu"
)


def decode(blocks: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n_blocks, 18) uint8 -> (n_blocks, 32) dtype."""
    d = half_floats(blocks, 0)  # (n_blocks, 1)
    return (d * lookup(KVALUES, split_nibbles(blocks[:, 2:]))).to(dtype)


FORMAT = BlockFormat("IQ4_NL", ggml_type=20, block_elems=32, block_bytes=18, decode=decode)
