"""TQ1_0: weights of -1, 0 and 1 times one fp16 scale per 256, five to a byte (1.6875 bits per weight).

Super-block of 256 weights, 54 bytes (`block_tq1_0` in ggml-common.h):

    bytes    field   type      meaning
    0..31    qs      32 x u8   digit p = 0..4 of byte j -> weight 32p + j
    32..47   (qs)    16 x u8   digit p = 0..4 of byte j -> weight 160 + 16p + j
    48..51   qh      4 x u8    digit p = 0..3 of byte j -> weight 240 + 4p + j
    52..53   d       fp16      scale

A byte is the base-3 fraction 0.t0 t1 t2 t3 t4 times 256, rounded up: tripling it shifts the next digit out on top.

    t[p] = ((byte * 3^p mod 256) * 3) >> 8 in 0..2
    w[i] = d * (t - 1)
"""

import torch

from ..block_format import BlockFormat
from .bits import half_floats


def digits(packed: torch.Tensor, count: int) -> torch.Tensor:
    """(n_blocks, m) uint8 -> (n_blocks, count * m) int8 in -1..1: digit 0 of every byte, then digit 1 and so on."""
    tops = torch.cat([packed * 3**p for p in range(count)], dim=1)  # modulo 256, as uint8 counts
    return ((tops.to(torch.int16) * 3) >> 8).to(torch.int8) - 1


def decode(blocks: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n_blocks, 54) uint8 -> (n_blocks, 256) dtype."""
    q = torch.cat((digits(blocks[:, :32], 5), digits(blocks[:, 32:48], 5), digits(blocks[:, 48:52], 4)), dim=1)
    return (half_floats(blocks, 52) * q).to(dtype)


FORMAT = BlockFormat("TQ1_0", ggml_type=34, block_elems=256, block_bytes=54, decode=decode)
