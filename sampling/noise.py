"""Start noise from a seed: the only place of the pack that draws random numbers for sampling."""

import operator
from collections.abc import Sequence

import torch

MAX_SEED = 2**64 - 1


def validate_seed(seed: int) -> int:
    """Return `seed` as an int in 0 to 2**64 - 1. Raises ValueError."""
    try:
        value = operator.index(seed)
    except TypeError:
        value = -1
    if isinstance(seed, bool) or not 0 <= value <= MAX_SEED:
        raise ValueError(f"seed must be a whole number from 0 to {MAX_SEED}, got {seed!r}")
    return value


def seed_noise(shape: Sequence[int], seed: int) -> torch.Tensor:
    """shape -> float32 standard normal noise on the CPU.

    The values are those the host draws for the same seed and shape, whatever the device of the run. The generator is
    our own, so the global one neither matters nor moves. torch seeds it with the low 32 bits only: seeds that differ by
    a multiple of 2**32 give the same noise, in the host too.
    """
    generator = torch.Generator(device="cpu").manual_seed(validate_seed(seed))
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32, device="cpu")
