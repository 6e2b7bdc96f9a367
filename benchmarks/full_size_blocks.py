"""Random weights of a standard deviation of 0.02 as the bytes of a file: blocks drawn from pools, piece by piece.

All blocks are quantised from normal numbers, so that activations stay finite through 40 layers; random bits would be
infinite scales. Q4_K, F16 and F32 come from `weights.py`. Layouts: ops/formats/q5_k.py, q6_k.py.
"""

import math
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np

from wan_gguf.benchmarks.weights import POOL_BLOCKS, STD, random_packed
from wan_gguf.ops.formats import FORMATS

PIECE_BYTES = 16 << 20
FLOATS = ("F16", "F32")
FLOAT_POOL = 1 << 20  # elements


def tensor_pieces(
    type_name: str, shape: tuple[int, ...], rng: np.random.Generator, mean: float = 0.0
) -> Iterator[np.ndarray]:
    """The tensor's data as arrays of at most PIECE_BYTES; `mean`, of floats only, is 1 for norms."""
    pool = _float_pool(type_name, mean) if type_name in FLOATS else _pool(type_name)
    left = math.prod(shape) // FORMATS[type_name].block_elems
    step = max(1, PIECE_BYTES // pool.itemsize // math.prod(pool.shape[1:]))
    while left:
        count = min(step, left)
        yield pool.take(rng.integers(0, len(pool), count, dtype=np.int32), axis=0)
        left -= count


@cache
def _pool(type_name: str) -> np.ndarray:
    """(n, block_bytes) uint8."""
    rng = np.random.default_rng(0)
    if type_name in _POOLS:
        return _POOLS[type_name](rng)
    return random_packed(type_name, (POOL_BLOCKS, FORMATS[type_name].block_elems), rng).blocks().numpy()


@cache
def _float_pool(type_name: str, mean: float) -> np.ndarray:
    """(FLOAT_POOL,) of that type."""
    values = mean + STD * np.random.default_rng(0).standard_normal(FLOAT_POOL)
    return values.astype({"F16": "<f2", "F32": "<f4"}[type_name])


def q5_k_pool(rng: np.random.Generator) -> np.ndarray:
    """(POOL_BLOCKS, 176) uint8: w = d * sc * q - dmin * mn with 5-bit q, 8 pairs of 6-bit sc and mn."""
    w = (STD * rng.standard_normal((POOL_BLOCKS, 8, 32))).astype(np.float32)
    low = np.minimum(w.min(2), 0)  # (n, 8), as are sc and mn
    step = (w.max(2) - low) / 31
    d = (step.max(1, keepdims=True) / 63).astype(np.float16)
    dmin = (-low.min(1, keepdims=True) / 63).astype(np.float16)
    sc, mn = (np.rint(x).clip(0, 63).astype(np.uint8) for x in (step / np.float32(d), -low / np.float32(dmin)))
    scale, minimum = np.float32(d) * sc, np.float32(dmin) * mn
    q = np.rint((w + minimum[..., None]) / np.maximum(scale, 1e-12)[..., None]).clip(0, 31).astype(np.uint8)
    first, second = sc[:, :4] | sc[:, 4:] >> 4 << 6, mn[:, :4] | mn[:, 4:] >> 4 << 6
    third = sc[:, 4:] & 15 | (mn[:, 4:] & 15) << 4
    qh = np.bitwise_or.reduce((q >> 4) << np.arange(8, dtype=np.uint8)[:, None], axis=1)  # (n, 32)
    qs = (q[:, 0::2] & 15 | (q[:, 1::2] & 15) << 4).reshape(POOL_BLOCKS, 128)
    return np.concatenate([d.view(np.uint8), dmin.view(np.uint8), first, second, third, qh, qs], axis=1)


def q6_k_pool(rng: np.random.Generator) -> np.ndarray:
    """(POOL_BLOCKS, 210) uint8: w = d * sc * (q - 32) with 6-bit q, 16 scales of 8 bits."""
    w = (STD * rng.standard_normal((POOL_BLOCKS, 16, 16))).astype(np.float32)
    step = np.abs(w).max(2) / 31
    d = (step.max(1, keepdims=True) / 127).astype(np.float16)
    sc = np.rint(step / np.float32(d)).clip(1, 127).astype(np.int8)
    q = (np.rint(w / (np.float32(d) * sc)[..., None]).clip(-32, 31) + 32).astype(np.uint8).reshape(-1, 2, 4, 32)
    ql = np.stack([q[:, :, i] & 15 | (q[:, :, i + 2] & 15) << 4 for i in (0, 1)], axis=2)  # (n, 2, 2, 32)
    qh = np.bitwise_or.reduce((q >> 4) << np.arange(0, 8, 2, dtype=np.uint8)[:, None], axis=2)  # (n, 2, 32)
    n = POOL_BLOCKS
    return np.concatenate([ql.reshape(n, 128), qh.reshape(n, 64), sc.view(np.uint8), d.view(np.uint8)], axis=1)


_POOLS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {"Q5_K": q5_k_pool, "Q6_K": q6_k_pool}
