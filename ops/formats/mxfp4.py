"""MXFP4: 4-bit floats, one power of two per 32 weights (4.25 bits per weight).

The OCP Microscaling format (MX v1.0, E2M1 elements with an E8M0 scale) in ggml's order. Block, 17 bytes (`block_mxfp4`
in ggml-common.h):

    bytes   field  type       meaning
    0       e      u8         E8M0 exponent: 2^(e - 127)
    1..16   qs     16 x u8    low nibble -> weight i, high nibble -> weight i + 16

    w[i] = 2^(e - 128) * KVALUES[q[i]]     with q[i] in 0..15

KVALUES are the E2M1 values doubled, to be integers, and the scale is halved to make up for it. ggml gives e = 255, NaN
in the OCP text, no special meaning.
"""

import torch

from ..block_format import BlockFormat
from .bits import lookup, split_nibbles

# `kvalues_fp4` in ggml-common.h, once `kvalues_mxfp4`; index 8 would be -0, which an integer does not have
KVALUES = torch.tensor([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], dtype=torch.int8, device="cpu")
HALF_SCALES = torch.tensor([2.0 ** (e - 128) for e in range(256)], dtype=torch.float32, device="cpu")


def decode(blocks: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n_blocks, 17) uint8 -> (n_blocks, 32) dtype."""
    d = lookup(HALF_SCALES, blocks[:, :1])  # (n_blocks, 1)
    return (d * lookup(KVALUES, split_nibbles(blocks[:, 1:]))).to(dtype)


FORMAT = BlockFormat("MXFP4", ggml_type=39, block_elems=32, block_bytes=17, decode=decode)
