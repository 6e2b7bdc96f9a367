"""Arithmetic on LLVM vectors, written as formulas: `(scale * q.to_float()) - minimum` emits the instructions.

A Vector is a value inside the function being built: `lanes` numbers of one type (a scalar has 0 lanes). Integers have
no sign of their own; `zext`/`sext` and `>>` (logical) say which is meant. Float operations are IEEE float32, rounded
after each operation and never fused, so the results are those of the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
CACHE_LINE_BYTES = 64
HALF, FLOAT, POINTER, VOID = ir.HalfType(), ir.FloatType(), ir.PointerType(), ir.VoidType()


def vector_type(element: ir.Type, lanes: int) -> ir.Type:
    """`lanes` of `element`; 0 lanes is the scalar."""
    return ir.VectorType(element, lanes) if lanes else element


@dataclass(frozen=True)
class Vector:
    """An LLVM value and the builder that emits what is done with it."""

    builder: ir.IRBuilder
    value: ir.Value

    @property
    def lanes(self) -> int:
        """Number of lanes; 0 for a scalar."""
        return self.value.type.count if isinstance(self.value.type, ir.VectorType) else 0

    @property
    def element(self) -> ir.Type:
        """Type of one lane."""
        return self.value.type.element if isinstance(self.value.type, ir.VectorType) else self.value.type

    def _wrap(self, value: ir.Value) -> Vector:
        return Vector(self.builder, value)

    def like(self, number: float) -> Vector:
        """A constant of this type."""
        one = ir.Constant(self.element, number)
        return self._wrap(ir.Constant(self.value.type, [one] * self.lanes) if self.lanes else one)

    def _other(self, other: Vector | float) -> ir.Value:
        return (other if isinstance(other, Vector) else self.like(other)).value

    def _is_float(self) -> bool:
        return not isinstance(self.element, ir.IntType)

    def __add__(self, other: Vector | float) -> Vector:
        emit = self.builder.fadd if self._is_float() else self.builder.add
        return self._wrap(emit(self.value, self._other(other)))

    def __sub__(self, other: Vector | float) -> Vector:
        emit = self.builder.fsub if self._is_float() else self.builder.sub
        return self._wrap(emit(self.value, self._other(other)))

    def __mul__(self, other: Vector | float) -> Vector:
        emit = self.builder.fmul if self._is_float() else self.builder.mul
        return self._wrap(emit(self.value, self._other(other)))

    def __floordiv__(self, number: int) -> Vector:
        """Unsigned division."""
        return self._wrap(self.builder.udiv(self.value, self._other(number)))

    def __and__(self, other: Vector | int) -> Vector:
        return self._wrap(self.builder.and_(self.value, self._other(other)))

    def __or__(self, other: Vector | int) -> Vector:
        return self._wrap(self.builder.or_(self.value, self._other(other)))

    def __xor__(self, other: Vector | int) -> Vector:
        return self._wrap(self.builder.xor(self.value, self._other(other)))

    def __rshift__(self, bits: Vector | int) -> Vector:
        return self._wrap(self.builder.lshr(self.value, self._other(bits)))

    def __lshift__(self, bits: Vector | int) -> Vector:
        return self._wrap(self.builder.shl(self.value, self._other(bits)))

    def zext(self, element: ir.Type) -> Vector:
        """Widen as unsigned."""
        return self._wrap(self.builder.zext(self.value, vector_type(element, self.lanes)))

    def sext(self, element: ir.Type) -> Vector:
        """Widen as signed."""
        return self._wrap(self.builder.sext(self.value, vector_type(element, self.lanes)))

    def trunc(self, element: ir.Type) -> Vector:
        """Keep the low bits."""
        return self._wrap(self.builder.trunc(self.value, vector_type(element, self.lanes)))

    def bitcast(self, element: ir.Type, lanes: int) -> Vector:
        """The same bits as other lanes."""
        return self._wrap(self.builder.bitcast(self.value, vector_type(element, lanes)))

    def to_float(self) -> Vector:
        """Signed 32-bit integers, exact up to 2^24, or half floats -> float32."""
        target = vector_type(FLOAT, self.lanes)
        emit = self.builder.sitofp if isinstance(self.element, ir.IntType) else self.builder.fpext
        return self._wrap(emit(self.value, target))

    def to_half(self) -> Vector:
        """float32 -> fp16, rounded half to even."""
        return self._wrap(self.builder.fptrunc(self.value, vector_type(HALF, self.lanes)))

    def bfloat_to_float(self) -> Vector:
        """bfloat16, given as 16-bit integers -> float32."""
        return (self.zext(I32) << 16).bitcast(FLOAT, self.lanes)

    def to_bfloat(self) -> Vector:
        """float32 -> bfloat16 as 16-bit integers, rounded half to even; every NaN becomes 0x7fc0, as in torch."""
        bits = self.bitcast(I32, self.lanes)
        rounded = (bits + ((bits >> 16) & 1) + 0x7FFF) >> 16
        return rounded.like(0x7FC0).select(self.is_nan(), rounded).trunc(I16)

    def round_to_int(self) -> Vector:
        """float32 below 2^31 -> 32-bit integers, half to even."""
        rounded = self._intrinsic("llvm.rint", self)
        return self._wrap(self.builder.fptosi(rounded.value, vector_type(I32, self.lanes)))

    def fma(self, factor: Vector, addend: Vector) -> Vector:
        """self * factor + addend, rounded once."""
        return self._intrinsic("llvm.fma", self, factor, addend)

    def abs(self) -> Vector:
        """|float32|."""
        return self._intrinsic("llvm.fabs", self)

    def maximum(self, other: Vector) -> Vector:
        """The larger float32; NaN if either is."""
        return self._intrinsic("llvm.maximum", self, other)

    def max_lanes(self) -> Vector:
        """The largest of all lanes, float32, as a scalar; lanes are a power of two."""
        largest = self
        while largest.lanes > 1:
            half = largest.lanes // 2
            largest = largest.slice(0, half).maximum(largest.slice(half, half))
        return largest.lane(0)

    def _intrinsic(self, name: str, *arguments: Vector) -> Vector:
        suffix = f"v{self.lanes}f32" if self.lanes else "f32"
        return self.call(f"{name}.{suffix}", self.value.type, *arguments)

    def call(self, name: str, result: ir.Type, *arguments: Vector) -> Vector:
        """A function of the module, or an intrinsic by its full name."""
        module, values = self.builder.module, [argument.value for argument in arguments]
        function = module.globals.get(name)
        if function is None:
            function = ir.Function(module, ir.FunctionType(result, [value.type for value in values]), name)
        return self._wrap(self.builder.call(function, values))

    def interleave(self, other: Vector) -> tuple[Vector, Vector]:
        """a0 b0 a1 b1 ... in two vectors of the same number of lanes."""
        both = [
            lane for pair in zip(range(self.lanes), range(self.lanes, 2 * self.lanes), strict=True) for lane in pair
        ]
        return self.pick(both[: self.lanes], other), self.pick(both[self.lanes :], other)

    def pick(self, lanes: Sequence[int], other: Vector | None = None) -> Vector:
        """The named lanes, in that order; lanes from self.lanes on are those of `other`."""
        mask = ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes))
        return self._wrap(self.builder.shuffle_vector(self.value, (other or self).value, mask))

    def slice(self, start: int, lanes: int) -> Vector:
        """Lanes start .. start + lanes - 1."""
        return self.pick(range(start, start + lanes))

    def join(self, other: Vector) -> Vector:
        """The lanes of both, one after the other."""
        return self.pick(range(2 * self.lanes), other)

    def lane(self, index: int) -> Vector:
        """One lane as a scalar."""
        return self._wrap(self.builder.extract_element(self.value, ir.Constant(I32, index)))

    def splat(self, lanes: int) -> Vector:
        """A scalar in every lane."""
        base = ir.Constant(vector_type(self.element, lanes), ir.Undefined)
        one = self.builder.insert_element(base, self.value, ir.Constant(I32, 0))
        return self._wrap(self.builder.shuffle_vector(one, base, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)))

    def sum_lanes(self) -> Vector:
        """The sum of all lanes, integers, as a scalar; lanes are a power of two."""
        total = self
        while total.lanes > 1:
            half = total.lanes // 2
            total = total.slice(0, half) + total.slice(half, half)
        return total.lane(0)

    def widen_lane(self, index: int, lanes: int) -> Vector:
        """One lane in every lane of a new vector."""
        return self.pick([index] * lanes)

    def select(self, condition: Vector, other: Vector) -> Vector:
        """This where the condition's lane is 1, else `other`."""
        return self._wrap(self.builder.select(condition.value, self.value, other.value))

    def equals(self, other: Vector | int) -> Vector:
        """Lanes of one bit: integers that are equal."""
        return self._wrap(self.builder.icmp_unsigned("==", self.value, self._other(other)))

    def is_nan(self) -> Vector:
        """Lanes of one bit: NaN."""
        return self._wrap(self.builder.fcmp_unordered("uno", self.value, self.value))


@dataclass(frozen=True)
class Pointer:
    """An address in bytes, with loads and stores that assume no alignment."""

    builder: ir.IRBuilder
    value: ir.Value

    def at(self, offset: Vector | ir.Value | int) -> Pointer:
        """This address plus `offset` bytes."""
        if isinstance(offset, Vector):
            offset = offset.value
        index = ir.Constant(I64, offset) if isinstance(offset, int) else offset
        return Pointer(self.builder, self.builder.gep(self.value, [index], source_etype=I8))

    def load(self, element: ir.Type, lanes: int = 0, align: int = 1) -> Vector:
        """`lanes` of `element`, little-endian as every file."""
        return Vector(self.builder, self.builder.load(self.value, align=align, typ=vector_type(element, lanes)))

    def load_again(self, element: ir.Type, lanes: int) -> Vector:
        """A load that LLVM does not merge with earlier ones: an instruction's operand instead of a register."""
        self.builder.fence("acq_rel", "singlethread")  # for the compiler only; no instruction
        return self.load(element, lanes)

    def prefetch(self, size: int) -> None:
        """Have `size` bytes brought to the L2 cache; any address is allowed."""
        module = self.builder.module
        function = module.globals.get("llvm.prefetch.p0")
        if function is None:
            function = ir.Function(module, ir.FunctionType(VOID, [POINTER, I32, I32, I32]), "llvm.prefetch.p0")
        for line in range(0, size, CACHE_LINE_BYTES):
            self.builder.call(function, [self.at(line).value, *(ir.Constant(I32, number) for number in (0, 2, 1))])

    def store(self, vector: Vector, align: int = 1) -> None:
        """Write all lanes."""
        self.builder.store(vector.value, self.value, align=align)


def constants(builder: ir.IRBuilder, element: ir.Type, numbers: Sequence[float]) -> Vector:
    """A vector of these numbers."""
    return Vector(builder, ir.Constant(ir.VectorType(element, len(numbers)), list(numbers)))
