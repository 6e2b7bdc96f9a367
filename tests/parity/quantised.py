"""Random weights as a GGUF file holds them, and the same numbers decoded by gguf-py, whose code is not ours."""

import gguf
import numpy as np
import torch

from wan_gguf.ops.formats import FORMATS
from wan_gguf.tests.loaders.build import random_bytes
from wan_gguf.tests.ops.scales import FP16_SCALES

NUMPY_FLOATS = {"F32": "<f4", "F16": "<f2"}


def encode(type_name: str, shape: tuple[int, ...], std: float, mean: float, seed: int) -> tuple[bytes, torch.Tensor]:
    """(the tensor's data, its values in float32): normal numbers, or random blocks whose weights spread by `std`."""
    rng = np.random.default_rng(seed)
    if type_name in NUMPY_FLOATS:
        stored = (mean + std * rng.standard_normal(shape)).astype(NUMPY_FLOATS[type_name])
        return stored.tobytes(), torch.from_numpy(stored.astype(np.float32))
    blocks = _random_blocks(type_name, shape, rng)
    spread = _decode(type_name, blocks).std()
    for at in FP16_SCALES[type_name]:  # every weight is linear in them
        scale = blocks[:, at : at + 2].copy().view("<f2") * np.float32(std / spread)
        blocks[:, at : at + 2] = scale.astype("<f2").view(np.uint8)
    return blocks.tobytes(), torch.from_numpy(_decode(type_name, blocks).reshape(shape))


def _random_blocks(type_name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    block_format = FORMATS[type_name]
    raw = random_bytes(type_name, int(np.prod(shape)) // block_format.block_elems, rng)
    return np.frombuffer(raw, np.uint8).reshape(-1, block_format.block_bytes).copy()


def _decode(type_name: str, blocks: np.ndarray) -> np.ndarray:
    return gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[type_name]).astype(np.float32)


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """|found - expected| / |expected|, both as one long vector in float64."""
    found, expected = found.double(), expected.double()
    return ((found - expected).norm() / expected.norm()).item()
