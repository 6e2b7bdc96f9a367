"""The pieces kernels are made of: turning small tiles, and conversions at their limits."""

import ctypes
import gc

import pytest
import torch
from llvmlite import ir

from wan_gguf.ops.backends.cpu.job import build, job_type, start
from wan_gguf.ops.backends.cpu.machine import machine
from wan_gguf.ops.backends.cpu.numbers import load_floats, store_floats
from wan_gguf.ops.backends.cpu.transpose import transpose
from wan_gguf.ops.backends.cpu.vectors import FLOAT

CopyJob = job_type("CopyJob", "source", "target")


def run_once(name, body, source: torch.Tensor, target: torch.Tensor) -> None:
    def only(e, first, stop):
        body(e, e.address("source"), e.address("target"))

    kernel = machine().compile(build(name, CopyJob, only), name)
    job = start(CopyJob, count=1, step=1, source=source.data_ptr(), target=target.data_ptr())
    kernel(ctypes.addressof(job))


@pytest.mark.parametrize(("rows", "lanes"), [(4, 8), (8, 4), (8, 8), (8, 16), (16, 8), (2, 4)])
def test_transpose(rows, lanes):
    def body(e, source, target):
        vectors = [source.at(row * lanes * 4).load(FLOAT, lanes) for row in range(rows)]
        for index, vector in enumerate(transpose(vectors)):
            target.at(index * vector.lanes * 4).store(vector)

    source, target = torch.arange(rows * lanes, dtype=torch.float32).view(rows, lanes), torch.zeros(lanes, rows)
    run_once(f"transpose_{rows}_{lanes}", body, source, target)
    assert torch.equal(target, source.t())


EDGES = [0.0, -0.0, 1.0, 1.00390625, 1.01171875, 65504.0, 65520.0, 1e-8, 6e-8, 1e-40, 3.4e38, -3.4e38, 1e10]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_conversions_are_torch_s(dtype):
    """Ties, overflow to infinity, denormals, NaN."""
    source = torch.tensor([*EDGES, float("inf"), float("-inf"), float("nan")])
    name = str(dtype).removeprefix("torch.")
    narrow, wide = torch.empty(16, dtype=dtype), torch.empty(16)

    def narrowing(e, source, target):
        store_floats(target, [load_floats(source, 16, "float32")], name)

    def widening(e, source, target):
        store_floats(target, [load_floats(source, 16, name)], "float32")

    run_once(f"narrow_{name}", narrowing, source, narrow)
    torch.testing.assert_close(narrow, source.to(dtype), rtol=0, atol=0, equal_nan=True)
    assert torch.equal(narrow[:2].signbit(), torch.tensor([False, True]))
    run_once(f"widen_{name}", widening, narrow, wide)
    torch.testing.assert_close(wide, narrow.float(), rtol=0, atol=0, equal_nan=True)


def test_a_module_that_is_wrong_is_an_error():
    module = ir.Module("wrong")
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), []), "wrong")
    function.append_basic_block()  # no terminator
    with pytest.raises(RuntimeError, match="expected instruction"):
        machine().compile(module, "wrong")


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_collected_after_building_as_before(enabled):
    seen = []
    was = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        with pytest.raises(ZeroDivisionError):
            build("broken", CopyJob, lambda *parts: seen.append(gc.isenabled()) or 1 / 0)
        assert (seen, gc.isenabled()) == ([False], enabled)
    finally:
        (gc.enable if was else gc.disable)()
