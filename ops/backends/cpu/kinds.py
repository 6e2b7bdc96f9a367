"""The two kinds of numbers that are multiplied: float32 in mode exact, 16-bit pairs of 8-bit integers in mode int8.

A kind says how one packed word looks: float32 is one k in four bytes, Int16Pairs two neighbouring k in four bytes. The
tokens of a tile stand side by side, word by word; the weights are broadcast word by word.
"""

from dataclasses import dataclass

from llvmlite import ir

from .machine import Machine
from .vectors import FLOAT, I16, I32, Vector

WORD_BYTES = 4


@dataclass(frozen=True)
class Float32:
    """sum += x * w with a fused multiply-add."""

    name = "float32"
    k_per_word = 1
    sum_type = FLOAT

    def weight_words(self, values: Vector, scale: Vector | None) -> Vector:
        """16 decoded weights as they are kept in a panel."""
        return values

    def multiply(self, total: Vector, x: Vector, w: Vector) -> Vector:
        """Add the product of the words of all lanes; x and w are (lanes,) I32 words."""
        return x.bitcast(FLOAT, x.lanes).fma(w.bitcast(FLOAT, w.lanes), total)

    @staticmethod
    def refuses(machine: Machine) -> str | None:
        """None, or what the CPU lacks."""
        return None if not machine.is_x86 or "fma" in machine.features else "needs a CPU with FMA"


@dataclass(frozen=True)
class Int16Pairs:
    """sum += x0 * w0 + x1 * w1 in 32-bit integers, exact: |x|, |w| <= 127 and k < 2^17."""

    name = "int8"
    k_per_word = 2
    sum_type = I32

    def weight_words(self, values: Vector, scale: Vector | None) -> Vector:
        """16 decoded weights times the row's reciprocal scale, rounded, as 16-bit integers."""
        scaled = values if scale is None else values * scale
        return scaled.round_to_int().trunc(I16)

    def multiply(self, total: Vector, x: Vector, w: Vector) -> Vector:
        """Add the products of both halves of the words of all lanes; x and w are (lanes,) I32 words."""
        pairs = [vector.bitcast(I16, 2 * vector.lanes) for vector in (x, w)]
        name = {4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}[x.lanes]
        return total + x.call(name, ir.VectorType(I32, x.lanes), *pairs)

    @staticmethod
    def refuses(machine: Machine) -> str | None:
        """None, or what the CPU lacks."""
        if not machine.is_x86:
            return "is written for x86 CPUs"
        needed = "avx512bw" if machine.float_lanes == 16 else "avx2"
        return None if needed in machine.features else f"needs a CPU with {needed.upper()}"


Kind = Float32 | Int16Pairs
