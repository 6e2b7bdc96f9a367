"""The job a kernel works on, and the loops kernels are made of.

A job is one struct of 64-bit fields, the same in Python (ctypes) and in the emitted code. Its first four fields hand
out the work: every thread takes a number from `slots` (for scratch memory of its own), then `step` items from `next`
until `count` are taken, so none waits for a slower one.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from llvmlite import ir

from .vectors import I64, POINTER, VOID, Pointer, Vector


class Job(ctypes.Structure):
    """`next` and `slots` start at 0; the threads advance them. What other fields mean is the kernel's business."""

    _fields_ = [(field, ctypes.c_int64) for field in ("next", "slots", "count", "step")]


def job_type(name: str, *fields: str) -> type[Job]:
    """A job with more 64-bit fields, addresses among them."""
    return type(name, (Job,), {"_fields_": [(field, ctypes.c_int64) for field in fields]})


def start(layout: type[Job], count: int, step: int, **fields: int) -> Job:
    """A job that has not begun."""
    return layout(next=0, slots=0, count=count, step=step, **fields)


@dataclass(frozen=True)
class Emitter:
    """The function being built and the job it is given."""

    builder: ir.IRBuilder
    job: Pointer
    layout: type[Job]
    slot: Vector  # 0, 1, 2 ...: which of the threads this is

    def field(self, name: str) -> Vector:
        """A number from the job."""
        return self.job.at(getattr(self.layout, name).offset).load(I64, align=8)

    def address(self, name: str) -> Pointer:
        """An address from the job."""
        at = self.job.at(getattr(self.layout, name).offset)
        return Pointer(self.builder, self.builder.load(at.value, align=8, typ=POINTER))

    @contextmanager
    def when(self, condition: Vector) -> Iterator[None]:
        """Do what is emitted inside only if the one-bit scalar is 1."""
        with self.builder.if_then(condition.value):
            yield

    def less(self, a: Vector, b: Vector) -> Vector:
        """a < b, signed: one bit."""
        return Vector(self.builder, self.builder.icmp_signed("<", a.value, b.value))

    def number(self, value: int) -> Vector:
        """A 64-bit constant."""
        return Vector(self.builder, ir.Constant(I64, value))

    @contextmanager
    def loop(self, start: Vector, stop: Vector, step: int = 1, carried: tuple[Vector, ...] = ()) -> Iterator[Loop]:
        """`for index in range(start, stop, step)`; `carried` values live in registers from one round to the next."""
        builder = self.builder
        before = builder.block
        head, body, after = (builder.append_basic_block(name) for name in ("head", "body", "after"))
        builder.branch(head)
        builder.position_at_end(head)
        index = builder.phi(I64)
        index.add_incoming(start.value, before)
        phis = [builder.phi(vector.value.type) for vector in carried]
        for phi, vector in zip(phis, carried, strict=True):
            phi.add_incoming(vector.value, before)
        builder.cbranch(builder.icmp_signed("<", index, stop.value), body, after)
        builder.position_at_end(body)
        loop = Loop(Vector(builder, index), tuple(Vector(builder, phi) for phi in phis))
        yield loop
        index.add_incoming(builder.add(index, ir.Constant(I64, step)), builder.block)
        for phi, vector in zip(phis, loop.carried, strict=True):
            phi.add_incoming(vector.value, builder.block)
        builder.branch(head)
        builder.position_at_end(after)
        loop.carried = tuple(Vector(builder, phi) for phi in phis)


class Loop:
    """Inside the loop set `carried` to the values for the next round; after it, it holds the last ones."""

    def __init__(self, index: Vector, carried: tuple[Vector, ...]):
        self.index = index
        self.carried = carried


def minimum(a: Vector, b: Vector) -> Vector:
    """The smaller of two signed scalars."""
    builder = a.builder
    return Vector(builder, builder.select(builder.icmp_signed("<", a.value, b.value), a.value, b.value))


def build(name: str, layout: type[Job], body: Callable[[Emitter, Vector, Vector], None]) -> ir.Module:
    """A module with `void name(ptr job)` that takes items and calls body(emitter, first, stop) for them."""
    with _no_collections():
        return _build(name, layout, body)


def _build(name: str, layout: type[Job], body: Callable[[Emitter, Vector, Vector], None]) -> ir.Module:
    module = ir.Module(name)
    function = ir.Function(module, ir.FunctionType(VOID, [POINTER]), name)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    take, work, done = (function.append_basic_block(label) for label in ("take", "work", "done"))
    job = Pointer(builder, function.args[0])
    emitter = Emitter(builder, job, layout, _add(job.at(layout.slots.offset), Vector(builder, ir.Constant(I64, 1))))
    step, count = emitter.field("step"), emitter.field("count")
    builder.branch(take)
    builder.position_at_end(take)
    first = _add(job.at(layout.next.offset), step)
    builder.cbranch(builder.icmp_signed("<", first.value, count.value), work, done)
    builder.position_at_end(work)
    body(emitter, first, minimum(first + step, count))
    builder.branch(take)
    builder.position_at_end(done)
    builder.ret_void()
    return module


@contextmanager
def _no_collections() -> Iterator[None]:
    """The thousands of objects made for a kernel would have Python look for garbage among all that a model holds."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _add(counter: Pointer, number: Vector) -> Vector:
    """Advance a counter that threads share; what it was before."""
    builder = counter.builder
    return Vector(builder, builder.atomic_rmw("add", counter.value, number.value, "monotonic"))
