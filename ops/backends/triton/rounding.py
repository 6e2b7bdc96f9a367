"""Mode int8's arithmetic on the device, operation for operation that of `ops/int8.py`."""

from .language import tl, triton


@triton.jit
def reciprocal(scale):
    """1 / scale, correctly rounded (a plain division compiles to an approximation on NVIDIA)."""
    return tl.div_rn(tl.full(scale.shape, 1.0, tl.float32), scale)


@triton.jit
def scale_of(peak):
    """The largest |value| of a row or token -> what its values are divided by; 1 where all are 0."""
    return tl.where(peak > 0, tl.div_rn(peak, tl.full(peak.shape, 127.0, tl.float32)), 1.0)


@triton.jit
def round_to_int8(value):
    """float32 -> int8 in -127..127, half to even.

    Adding 1.5 * 2^23 rounds to a whole number, as float32 has no smaller digits there, and leaves the number's two's
    complement in the lowest bits: no conversion instruction, and the same on every backend. The kernel must be
    launched without fused operations, or a multiplication before this one would not be rounded.
    """
    return (tl.clamp(value, -127.0, 127.0) + 12582912.0).to(tl.int32, bitcast=True).to(tl.int8)
