"""Sizes of files as people write them: 3GB, 3.5 GiB, 800MB, 3.2e9."""

import math
import re

from .errors import ConvertError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_SIZE = re.compile(r"(?P<number>[0-9.]+(?:e[0-9]+)?)\s*(?P<unit>[KMGT]?I?)B?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """ "3GB" -> 3000000000, "3GiB" -> 3221225472. Raises ConvertError."""
    found = _SIZE.fullmatch(text.strip())
    try:
        nbytes = float(found["number"]) * _UNITS[found["unit"].upper()] if found else 0.0
    except (ValueError, KeyError):
        nbytes = 0.0
    if not 1 <= nbytes <= 2**60 or not math.isfinite(nbytes):
        raise ConvertError(f"size: got {text!r}; a number with a unit is allowed, as in 3GB (10^9), 3GiB (2^30), 3.2e9")
    return int(nbytes)
