"""Means over prompts and how sure they are: 95 % confidence intervals.

Of a mean: Student's t. Of a difference between two types: of the differences prompt by prompt, because both made the
same videos. Of a share: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22, 1927.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from wan_gguf.benchmarks.results import Results

LEVEL = 0.975  # one side of 95 %
NORMAL = 1.959964  # that quantile of the normal distribution


def mean_of(values: Sequence[float]) -> Results:
    """`mean`, `half_width` of its interval, and the extremes."""
    x = np.asarray(values, dtype=np.float64)
    half_width = float(stdtrit(len(x) - 1, LEVEL) * x.std(ddof=1) / math.sqrt(len(x)))
    return {"mean": float(x.mean()), "half_width": half_width, "min": float(x.min()), "max": float(x.max())}


def share_of(right: Sequence[bool]) -> Results:
    """`right` of `n`, as `share`, and the interval `low` to `high`."""
    n, k = len(right), int(np.sum(right))
    p, z2 = k / n, NORMAL**2
    middle, reach = p + z2 / (2 * n), NORMAL * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    low, high = ((middle + sign * reach) / (1 + z2 / n) for sign in (-1, 1))
    return {"right": k, "n": n, "share": p, "low": low, "high": high}


def difference(a: Sequence[float], b: Sequence[float]) -> Results:
    """a - b in the mean, `half_width` of its interval, and whether that leaves 0 out."""
    found = mean_of(np.subtract(a, b))
    mean, half_width = found["mean"], found["half_width"]
    return {"mean": mean, "half_width": half_width, "is_real": abs(mean) > half_width}
