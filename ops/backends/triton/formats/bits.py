"""Loads and unpacking shared by the formats' device functions. `block` points to the first byte of each block."""

from ..language import tl, triton


@triton.jit
def half(block, at):
    """The fp16 number at the even byte `at`, as float32."""
    return tl.load((block + at).to(tl.pointer_type(tl.float16))).to(tl.float32)


@triton.jit
def word(block, at):
    """The little-endian 16-bit number at the even byte `at`."""
    return tl.load((block + at).to(tl.pointer_type(tl.uint16)))


@triton.jit
def scale_min(block, sub):
    """Scale and minimum of sub-block 0..7 in Q4_K and Q5_K as float32: six bits each, packed in bytes 4..15.

    Low six bits of byte 4 + j (scale) and 8 + j (minimum) for sub-block j < 4; for 4 + j the nibbles of byte 12 + j,
    and above them the high two bits of bytes 4 + j and 8 + j.
    """
    j = sub % 4
    first = tl.load(block + 4 + j)
    second = tl.load(block + 8 + j)
    nibbles = tl.load(block + 12 + j)
    sc = tl.where(sub < 4, first & 63, (nibbles & 15) | ((first >> 6) << 4))
    mn = tl.where(sub < 4, second & 63, (nibbles >> 4) | ((second >> 6) << 4))
    return sc.to(tl.float32), mn.to(tl.float32)


@triton.jit
def crumb(block, at, sub, e):
    """Two bits of a weight of Q2_K and Q3_K, whose 64 bytes begin at `at`; int32.

    Sub-block s = 8h + 2g + p of 16 weights: bits 2g and 2g + 1 of bytes 32h + 16p .. 32h + 16p + 15.
    """
    byte = tl.load(block + at + (sub // 8) * 32 + (sub % 2) * 16 + e)
    return (byte.to(tl.int32) >> (sub % 8 // 2 * 2)) & 3


@triton.jit
def kvalue(q):
    """Entry q (0..15) of `kvalues_iq4nl` in ggml-common.h as float32.

    The sixteen int8 lie in two 64-bit constants, entry 0 lowest: a select and a shift, where a table in memory would
    cost a load per weight.
    """
    # -127, -104, -83, -65, -49, -35, -22, -10 and 1, 13, 25, 38, 53, 69, 89, 113
    entries = tl.where(q < 8, -0x091522304052677F, 0x7159453526190D01)
    return (entries >> (q.to(tl.int64) % 8 * 8)).to(tl.int8).to(tl.float32)
