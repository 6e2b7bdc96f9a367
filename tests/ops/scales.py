"""Where the scales are in the blocks of every format, for tests that set them."""

from collections.abc import Callable

import numpy as np

FP16_SCALES = {  # first byte of each fp16 field
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,),
    "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,),
    "IQ1_S": (0,), "IQ2_XXS": (0,), "IQ2_XS": (0,), "IQ2_S": (0,), "IQ3_XXS": (0,), "IQ3_S": (0,),
    "IQ4_NL": (0,), "IQ4_XS": (0,), "TQ1_0": (52,), "TQ2_0": (64,),
    "IQ1_M": (),  # one fp16 in four pieces: write_iq1_m_scale
}  # fmt: skip
BYTE_SCALES = {"MXFP4": slice(0, 1), "NVFP4": slice(0, 4)}  # one-byte floats
MODERATE_BYTES = {  # half of these ranges of numbers: E8M0 and UE4M3
    "MXFP4": (120, 124),  # 2^-7 .. 2^-4
    "NVFP4": (8, 40),  # 2^-6 .. 2^-2
}


def write_fp16_scales(name: str, blocks: np.ndarray, draw: Callable[[], np.ndarray]) -> None:
    """Write (n_blocks,) float16 from `draw`, called once for every field, into (n_blocks, block_bytes) uint8."""
    for at in FP16_SCALES[name]:
        blocks[:, at : at + 2] = draw().astype("<f2").view(np.uint8).reshape(-1, 2)
    if name == "IQ1_M":
        write_iq1_m_scale(blocks, draw().astype("<f2").view("<u2"))


def write_iq1_m_scale(blocks: np.ndarray, d: np.ndarray) -> None:
    """Spread the 16 bits of d, (n_blocks,), over the upper four bits of bytes 49, 51, 53 and 55, lowest first."""
    for k, at in enumerate((49, 51, 53, 55)):
        blocks[:, at] = (blocks[:, at] & 15) | ((d >> (4 * k)) & 15) << 4


def write_moderate_scales(name: str, blocks: np.ndarray, rng: np.random.Generator) -> None:
    """Scales of 2^-6 or so, of either sign where the format has signs, so that every weight is finite."""
    if name in BYTE_SCALES:
        scales = blocks[:, BYTE_SCALES[name]]
        scales[...] = rng.integers(*MODERATE_BYTES[name], scales.shape, dtype=np.uint8)
    else:
        write_fp16_scales(name, blocks, lambda: rng.standard_normal(blocks.shape[0]) / 64)
