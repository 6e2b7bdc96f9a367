"""TQ2_0: weights of -1, 0 and 1 times one fp16 scale per 256, four to a byte (2.0625 bits per weight).

Super-block of 256 weights, 66 bytes (`block_tq2_0` in ggml-common.h):

    bytes    field  type      meaning
    0..63    qs     64 x u8   half h of 32 bytes: bits 2g and 2g + 1 of byte j -> weight 128h + 32g + j
    64..65   d      fp16      scale

    w[i] = d * (q[i] - 1)     with q[i] in 0..3 (3 is not written by ggml, and reads as 2)
"""

import torch

from ..block_format import BlockFormat
from .bits import half_floats, planes


def decode(blocks: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n_blocks, 66) uint8 -> (n_blocks, 256) dtype."""
    n_blocks = blocks.shape[0]
    q = planes(blocks[:, :64].reshape(n_blocks, 2, 32), width=2, count=4).view(n_blocks, 256)
    return (half_floats(blocks, 64) * (q.view(torch.int8) - 1)).to(dtype)


FORMAT = BlockFormat("TQ2_0", ggml_type=35, block_elems=256, block_bytes=66, decode=decode)
