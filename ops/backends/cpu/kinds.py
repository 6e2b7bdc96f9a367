"""The kinds of numbers that are multiplied: float32 in mode exact, 8-bit integers in mode int8.

A kind says how one packed word of four bytes looks: one float32, two neighbouring k as 16-bit integers, or four as
bytes. The tokens of a tile stand side by side, word by word; the weights are broadcast word by word.
"""

from dataclasses import dataclass

from llvmlite import ir

from .machine import Machine
from .vectors import FLOAT, I8, I16, I32, Vector

WORD_BYTES = 4
OFFSET = 128  # what makes signed bytes unsigned


@dataclass(frozen=True)
class Float32:
    """sum += x * w with a fused multiply-add."""

    name = "float32"
    mode = "exact"
    k_per_word = 1
    unroll = 8  # words of k between two looks at the loop's end
    spare_registers = 0
    sum_type = FLOAT
    has_offset = False

    def activation_words(self, values: Vector) -> Vector:
        """Activations as they are packed."""
        return values

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
    """sum += x0 * w0 + x1 * w1 in 32-bit integers, exact: |x|, |w| <= 127 and k < 2^17. For CPUs without VNNI."""

    name = "int16_pairs"
    mode = "int8"
    k_per_word = 2
    unroll = 2  # with more, LLVM computes products ahead and runs out of registers for them
    spare_registers = 1
    sum_type = I32
    has_offset = False

    def activation_words(self, values: Vector) -> Vector:
        """32-bit integers in -127..127 as pairs."""
        return values.trunc(I16).bitcast(I32, values.lanes // 2)

    def weight_words(self, values: Vector, scale: Vector | None) -> Vector:
        """16 decoded weights times the row's reciprocal scale, rounded, as 16-bit integers."""
        return _rounded(values, scale).trunc(I16)

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


@dataclass(frozen=True)
class Int8Quads:
    """sum += x0 * w0 + ... + x3 * w3 with signed x and unsigned w, which carries an OFFSET that `_write` takes off.

    One instruction (VPDPBUSD) where the CPU has VNNI; `emulated` spells it out, to test everything around it anywhere.
    """

    emulated: bool = False

    name = "int8_quads"
    mode = "int8"
    k_per_word = 4
    unroll = 4
    spare_registers = 0
    sum_type = I32
    has_offset = True

    def activation_words(self, values: Vector) -> Vector:
        """32-bit integers in -127..127 as four bytes."""
        return values.trunc(I8).bitcast(I32, values.lanes // 4)

    def weight_words(self, values: Vector, scale: Vector | None) -> Vector:
        """16 decoded weights times the row's reciprocal scale, rounded, plus OFFSET, as bytes."""
        return (_rounded(values, scale) + OFFSET).trunc(I8)

    def multiply(self, total: Vector, x: Vector, w: Vector) -> Vector:
        """Add the products of the bytes of the words of all lanes; x and w are (lanes,) I32 words."""
        lanes = x.lanes
        if self.emulated:
            for byte in range(4):
                signed = _signed_byte(x, byte)
                total = total + signed * ((w >> (8 * byte)) & 255)
            return total
        name = f"llvm.x86.avx512.vpdpbusd.{32 * lanes}"
        quads = [vector.bitcast(I8, 4 * lanes) for vector in (w, x)]
        return total.call(name, ir.VectorType(I32, lanes), total, *quads)

    @staticmethod
    def refuses(machine: Machine) -> str | None:
        """None, or what the CPU lacks."""
        needed = {"avx512vnni"} if machine.float_lanes == 16 else {"avxvnni", "avx2"}
        return None if machine.is_x86 and needed <= machine.features else "needs a CPU with VNNI"


Kind = Float32 | Int16Pairs | Int8Quads


def _rounded(values: Vector, scale: Vector | None) -> Vector:
    return (values if scale is None else values * scale).round_to_int()


def _signed_byte(words: Vector, byte: int) -> Vector:
    """One byte of each word as a signed 32-bit integer."""
    low = (words >> (8 * byte)) & 255
    return (low ^ 128) - 128
