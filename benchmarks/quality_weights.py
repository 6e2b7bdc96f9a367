"""How exactly each GGML type keeps single matrices: signal to noise, 10 log10(sum w^2 / sum (w - stored w)^2) dB.

Rows as long as the real models' hold random numbers, since the real weights are too large to come with a benchmark:
normal ones, and ones with heavy tails (Student's t of 5 degrees of freedom), which are closer to trained weights where
these have outliers. Every row is quantised by itself, so ROWS of them stand for the whole matrix: more than two million
numbers, whose noise is known to 0.02 dB. Beside them the reference transformer's own matrices, trained but small.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from wan_gguf.benchmarks.quality_files import REFERENCE, is_matrix
from wan_gguf.benchmarks.quality_state import digest, kept_value
from wan_gguf.benchmarks.results import Results, say
from wan_gguf.benchmarks.weights import STD
from wan_gguf.convert.hashes import file_sha256
from wan_gguf.convert.quantize import quantize, quantizer
from wan_gguf.loaders.wan import load_wan
from wan_gguf.ops.dequantize import dequantize
from wan_gguf.ops.formats import FORMATS
from wan_gguf.ops.packed import PackedWeight

# in the order of their bits per weight
TYPES = (
    "Q2_K",
    "Q3_K",
    "IQ4_XS",
    "IQ4_NL",
    "Q4_0",
    "Q4_K",
    "Q4_1",
    "Q5_0",
    "Q5_K",
    "Q5_1",
    "Q6_K",
    "Q8_0",
    "BF16",
    "F16",
)
SHAPES = {"TI2V-5B, 3072x14336": (3072, 14336), "A14B, 5120x5120": (5120, 5120)}
DISTRIBUTIONS = ("normal", "heavy tails")
DEGREES = 5
ROWS = 512
TRAINED = "reference model"


def part(folder: Path) -> Results:
    """{matrix: {type: dB}}, and bits per weight of each type."""
    tables = {}
    for distribution in DISTRIBUTIONS:
        for name, shape in SHAPES.items():
            key = digest("random", shape, ROWS, distribution, TYPES, quantizer())
            tables[f"{name}, {distribution}"] = _kept(folder, key, lambda d=distribution, s=shape: _random_pieces(s, d))
    key = digest("trained", file_sha256(REFERENCE), TYPES, quantizer())
    tables[TRAINED] = _kept(folder, key, _trained_pieces)
    bits = {name: 8 * FORMATS[name].block_bytes / FORMATS[name].block_elems for name in TYPES}
    return {"bits_per_weight": bits, "sqnr_db": tables, "quantizer": quantizer()}


def _kept(folder: Path, key: str, pieces: Callable[[], Iterator[np.ndarray]]) -> dict[str, float | None]:
    return kept_value(folder / f"{key}.json", lambda: sqnr_db(pieces()))


def sqnr_db(pieces: Iterator[np.ndarray], types: tuple[str, ...] = TYPES) -> dict[str, float | None]:
    """Of all the (n, k) float32 pieces together; None where nothing is lost."""
    signal, noise = 0.0, dict.fromkeys(types, 0.0)
    for rows in pieces:
        signal += _energy(rows)
        for type_name in types:
            noise[type_name] += _energy(stored(rows, type_name) - rows)
    return {name: 10 * math.log10(signal / value) if value else None for name, value in noise.items()}


def stored(rows: np.ndarray, type_name: str) -> np.ndarray:
    """What a file of that type gives back: quantised by the converter, decoded by the pack."""
    data = torch.from_numpy(quantize(rows, type_name, "random weights"))
    return dequantize(PackedWeight(data, FORMATS[type_name], rows.shape)).numpy()


def _energy(values: np.ndarray) -> float:
    return float(np.square(values, dtype=np.float64).sum())


def _random_pieces(shape: tuple[int, int], distribution: str) -> Iterator[np.ndarray]:
    """ROWS rows of a matrix of standard deviation STD; the same numbers every time."""
    n, k = shape
    say(f"weights: {n}x{k}, {distribution}")
    rng, size = np.random.default_rng(0), (min(ROWS, n), k)
    if distribution == "normal":
        yield (STD * rng.standard_normal(size)).astype(np.float32)
    else:
        yield (STD * rng.standard_t(DEGREES, size) / math.sqrt(DEGREES / (DEGREES - 2))).astype(np.float32)


def _trained_pieces() -> Iterator[np.ndarray]:
    say(f"weights: {TRAINED}")
    for name, packed in load_wan(REFERENCE).tensors.items():
        if is_matrix(name, packed.shape):
            yield dequantize(packed).numpy()
