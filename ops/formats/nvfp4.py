"""NVFP4: 4-bit floats in 4 sub-blocks of 16, each with an 8-bit float as its scale (4.5 bits per weight).

Block of 64 weights, 36 bytes (`block_nvfp4` in ggml-common.h):

    bytes   field  type       meaning
    0..3    d      4 x u8     scale of sub-block s, UE4M3
    4..35   qs     32 x u8    byte 8s + j: low nibble -> weight 16s + j, high nibble -> weight 16s + 8 + j

    w[i] = ue4m3(d[i // 16]) / 2 * KVALUES[q[i]]     with q[i] in 0..15, KVALUES as in MXFP4

UE4M3 is E4M3 without a sign (bias 7, denormals for exponent 0). Its NaN, 127, counts as 0 and the top bit is ignored,
as in `ggml_ue4m3_to_fp32` of ggml-impl.h. The scale per tensor that NVIDIA's files carry is not part of the block.
"""

import torch

from ..block_format import BlockFormat
from .bits import lookup, split_nibbles
from .mxfp4 import KVALUES


def half_ue4m3(byte: int) -> float:
    """Half the value of an unsigned E4M3 number."""
    exponent, mantissa = byte >> 3 & 15, byte & 7
    if byte == 127:
        return 0.0
    return mantissa * 2.0**-10 if exponent == 0 else (8 + mantissa) * 2.0 ** (exponent - 11)


HALF_SCALES = torch.tensor([half_ue4m3(byte) for byte in range(256)], dtype=torch.float32, device="cpu")


def decode(blocks: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n_blocks, 36) uint8 -> (n_blocks, 64) dtype."""
    n_blocks = blocks.shape[0]
    d = lookup(HALF_SCALES, blocks[:, :4]).unsqueeze(-1)  # (n_blocks, 4, 1)
    values = lookup(KVALUES, split_nibbles(blocks[:, 4:].reshape(n_blocks, 4, 8)))  # (n_blocks, 4, 16)
    return (d * values).view(n_blocks, 64).to(dtype)


FORMAT = BlockFormat("NVFP4", ggml_type=40, block_elems=64, block_bytes=36, decode=decode)
