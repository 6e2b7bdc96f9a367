"""Sixteen signed bytes looked up by four-bit numbers: IQ4_NL and IQ4_XS."""

from llvmlite import ir

from ..machine import machine
from ..vectors import I8, Vector, constants

# kvalues_iq4nl in ggml-common.h
IQ4_VALUES = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


def iq4_values(index: Vector) -> Vector:
    """(16,) 8-bit numbers in 0..15 -> (16,) 8-bit values: one byte shuffle where the CPU has it."""
    table, kind = constants(index.builder, I8, IQ4_VALUES), ir.VectorType(I8, 16)
    if "ssse3" in machine().features:
        return index.call("llvm.x86.ssse3.pshuf.b.128", kind, table, index)
    if machine().triple.startswith(("aarch64", "arm64")):
        return index.call("llvm.aarch64.neon.tbl1.v16i8", kind, table, index)
    value = index.like(IQ4_VALUES[0])
    for number in range(1, 16):
        value = index.like(IQ4_VALUES[number]).select(index.equals(number), value)
    return value
