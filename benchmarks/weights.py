"""Random weights in packed form, and which tensor of a Wan file has which type.

A weight is made of blocks drawn from a pool: quantising hundreds of millions of numbers would take longer than what is
measured. The pools of Q4_K and Q8_0 are quantised from normal numbers, so that the errors measured on them mean
something. Q6_K's are random bits: it occurs in timings only.
"""

import math
from collections.abc import Callable
from functools import cache

import gguf
import numpy as np
import torch

from wan_gguf.loaders.wan_config import wan_shapes
from wan_gguf.ops.formats import FORMATS
from wan_gguf.ops.packed import PackedWeight

STD = 0.02  # of a weight, about what the models have
POOL_BLOCKS = 4096
RECIPES = ("Q4_K", "Q4_K_M", "Q8_0")


def _q4_k_pool(rng: np.random.Generator) -> np.ndarray:
    """(POOL_BLOCKS, 144) uint8; the layout is told in ops/formats/q4_k.py."""
    w = (STD * rng.standard_normal((POOL_BLOCKS, 8, 32))).astype(np.float32)
    low = np.minimum(w.min(2), 0)  # (n, 8), as are sc and mn
    step = (w.max(2) - low) / 15
    d = (step.max(1, keepdims=True) / 63).astype(np.float16)
    dmin = (-low.min(1, keepdims=True) / 63).astype(np.float16)
    sc, mn = _six_bits(step / d.astype(np.float32)), _six_bits(-low / dmin.astype(np.float32))
    scale, minimum = d.astype(np.float32) * sc, dmin.astype(np.float32) * mn
    q = np.rint((w + minimum[..., None]) / np.maximum(scale, 1e-12)[..., None]).clip(0, 15).astype(np.uint8)
    first, second = sc[:, :4] | sc[:, 4:] >> 4 << 6, mn[:, :4] | mn[:, 4:] >> 4 << 6
    nibbles = sc[:, 4:] & 15 | (mn[:, 4:] & 15) << 4
    qs = (q[:, 0::2] | q[:, 1::2] << 4).reshape(POOL_BLOCKS, 128)
    return np.concatenate([d.view(np.uint8), dmin.view(np.uint8), first, second, nibbles, qs], axis=1)


def _six_bits(values: np.ndarray) -> np.ndarray:
    return np.rint(values).clip(0, 63).astype(np.uint8)


def _q6_k_pool(rng: np.random.Generator) -> np.ndarray:
    """(POOL_BLOCKS, 210) uint8: random q, uniform in -32..31, scales of 64 to 127."""
    blocks = rng.integers(0, 256, (POOL_BLOCKS, 210), dtype=np.uint8)
    blocks[:, 192:208] = 64 | blocks[:, 192:208] & 63
    d = np.full((POOL_BLOCKS, 1), STD / (95 * 64 / math.sqrt(12)), dtype=np.float16)
    blocks[:, 208:210] = d.view(np.uint8)
    return blocks


def _gguf_pool(type_name: str, rng: np.random.Generator) -> np.ndarray:
    """(POOL_BLOCKS, block_bytes) uint8 of normal numbers, by gguf-py."""
    elems = FORMATS[type_name].block_elems
    values = (STD * rng.standard_normal((POOL_BLOCKS, elems))).astype(np.float32)
    quantized = gguf.quants.quantize(values, gguf.GGMLQuantizationType[type_name])
    return quantized.view(np.uint8).reshape(POOL_BLOCKS, FORMATS[type_name].block_bytes)


_POOLS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {"Q4_K": _q4_k_pool, "Q6_K": _q6_k_pool}


@cache
def _pool(type_name: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    return _POOLS[type_name](rng) if type_name in _POOLS else _gguf_pool(type_name, rng)


def random_packed(type_name: str, shape: tuple[int, ...], rng: np.random.Generator) -> PackedWeight:
    """A weight of that GGML type and shape; mean 0, standard deviation about STD."""
    n_blocks = math.prod(shape) // FORMATS[type_name].block_elems
    raw = _pool(type_name)[rng.integers(0, POOL_BLOCKS, n_blocks)]
    return PackedWeight(torch.from_numpy(raw.reshape(-1)), FORMATS[type_name], shape)


def _floats(shape: tuple[int, ...], mean: float, rng: np.random.Generator) -> PackedWeight:
    values = (mean + STD * rng.standard_normal(shape)).astype(np.float32).reshape(-1)
    return PackedWeight(torch.from_numpy(values.view(np.uint8)), FORMATS["F32"], shape)


def type_of(name: str, shape: tuple[int, ...], recipe: str) -> str:
    """The GGML type of a tensor in published files made from an F16 checkpoint, but for the F32 of small tensors."""
    if len(shape) != 2:
        return "F32"
    if not name.startswith("blocks."):
        return "F16"
    if recipe == "Q4_K_M":
        return "Q6_K" if name.endswith((".v.weight", ".ffn.2.weight")) else "Q4_K"
    return recipe


def wan_weights(config: dict, recipe: str, seed: int = 0) -> dict[str, PackedWeight]:
    """Every tensor of a Wan model with those settings, by its name in the file."""
    rng, made = np.random.default_rng(seed), {}
    for name, shape in wan_shapes(config).items():
        type_name = type_of(name, shape, recipe)
        is_norm = "norm" in name and name.endswith("weight")
        made[name] = _floats(shape, float(is_norm), rng) if type_name == "F32" else random_packed(type_name, shape, rng)
    return made
