"""What the kernels refuse and why, and that the pack works without Triton."""

import contextlib
import subprocess
import sys

import pytest
import torch

from wan_gguf.ops import dispatch
from wan_gguf.ops.backends.triton import decode, int8_linear, linear, machine, row_peaks, small_m
from wan_gguf.tests.loaders.build import packed_weight

WEIGHT = packed_weight("Q4_K", (16, 256))
X = torch.zeros(17, 256)


class CudaWeight:
    """What `refuses` looks at, of a weight on a CUDA device that is not here."""

    def __init__(self, packed, address: int = 0):
        self.format, self.shape, self.device = packed.format, packed.shape, torch.device("cuda", 0)
        self.data = self
        self.address = address

    def data_ptr(self) -> int:
        return self.address


@pytest.fixture
def cuda(monkeypatch):
    """A machine with a CUDA device on which Triton and torch._int_mm work."""
    monkeypatch.setattr(machine, "MISSING", False)
    monkeypatch.setattr(machine, "device_fault", lambda device: None)
    monkeypatch.setattr(int8_linear, "int_mm_fault", lambda device: None)


def test_they_are_found_and_come_before_the_reference():
    names = [kernel.name for kernel in dispatch.LINEAR_KERNELS]
    expected = ["triton.small_m", "triton.int8_linear", "triton.linear", "reference.int8_linear", "reference.linear"]
    assert [name for name in names if name in expected] == expected
    decoders = [kernel.name for kernel in dispatch.DECODE_KERNELS]
    assert decoders.index("triton.decode") < decoders.index("reference.decode")


def test_a_cpu_is_refused(monkeypatch):
    monkeypatch.setattr(machine, "MISSING", False)
    reason = "needs a CUDA or ROCm device, not cpu"
    assert decode.refuses(WEIGHT, torch.float32) == reason
    assert row_peaks.refuses(WEIGHT) == reason
    assert small_m.refuses(X[:1], WEIGHT, None, "exact") == reason
    assert linear.refuses(X, WEIGHT, None, "exact") == reason
    assert int8_linear.refuses(X, WEIGHT, None, "int8") == reason


def test_without_triton_that_is_the_reason(monkeypatch):
    monkeypatch.setattr(machine, "MISSING", True)
    assert decode.refuses(WEIGHT, torch.float32) == "needs the triton package"


@pytest.mark.usefixtures("cuda")
def test_what_they_take():
    weight = CudaWeight(WEIGHT)
    assert dispatch.choose_row_peaks(weight).kernel.name == "triton.row_peaks"
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert decode.refuses(weight, dtype) is None
        assert small_m.refuses(X[:16].to(dtype), weight, None, "exact") is None
        assert linear.refuses(X.to(dtype), weight, None, "exact") is None
        assert int8_linear.refuses(X.to(dtype), weight, None, "int8") is None


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize(
    ("module", "x", "packed", "mode", "reason"),
    [
        (linear, X, CudaWeight(WEIGHT), "int8", "computes mode exact only, not int8"),
        (small_m, X[:1], CudaWeight(WEIGHT), "int8", "computes mode exact only, not int8"),
        (int8_linear, X, CudaWeight(WEIGHT), "exact", "computes mode int8 only, not exact"),
        (linear, X.double(), CudaWeight(WEIGHT), "exact", "takes float32, bfloat16 and float16, not torch.float64"),
        (small_m, X[:1].double(), CudaWeight(WEIGHT), "exact", "takes float32, bfloat16 and float16"),
        (int8_linear, X.double(), CudaWeight(WEIGHT), "int8", "takes float32, bfloat16 and float16"),
        (small_m, X, CudaWeight(WEIGHT), "exact", "takes at most 16 tokens"),
        (small_m, X[:1].clone().requires_grad_(), CudaWeight(WEIGHT), "exact", "has no backward pass"),
        (int8_linear, X.clone().requires_grad_(), CudaWeight(WEIGHT), "int8", "has no backward pass"),
        (int8_linear, X[:16], CudaWeight(WEIGHT), "int8", "needs 17 tokens or more"),
        (int8_linear, X, CudaWeight(packed_weight("Q4_K", (9, 256))), "int8", "in multiples of 8, not 256 and 9"),
        (linear, X, CudaWeight(packed_weight("F16", (16, 256))), "exact", "has no kernel for F16"),
        (linear, X, CudaWeight(WEIGHT, address=3), "exact", "needs packed data at an even address"),
    ],
)
def test_what_they_refuse(module, x, packed, mode, reason):
    assert reason in module.refuses(x, packed, None, mode)


@pytest.mark.usefixtures("cuda")
def test_decode_refuses_float64():
    assert decode.refuses(CudaWeight(WEIGHT), torch.float64) == (
        "writes float32, bfloat16 and float16, not torch.float64"
    )


def test_an_old_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1))
    monkeypatch.setattr(torch.version, "hip", None)
    assert machine.device_fault.__wrapped__(torch.device("cuda", 0)) == "needs compute capability 7.5 or newer"


def test_a_triton_that_does_not_work(monkeypatch):
    class Broken:
        def __getitem__(self, grid):
            raise FileNotFoundError("no C compiler\nsecond line")

    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *size, device=None, **options: zeros(*size, **options))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    monkeypatch.setattr(machine, "on_device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(machine, "_write_one", Broken())
    reason = machine.device_fault.__wrapped__(torch.device("cuda", 0))
    assert reason == "cannot use Triton here: FileNotFoundError: no C compiler"


def test_an_integer_gemm_that_does_not_work(monkeypatch):
    def broken(*arguments):
        raise RuntimeError("_int_mm_out_cuda not compiled\nsecond line")

    ones = torch.ones
    monkeypatch.setattr(torch, "ones", lambda *size, device=None, **options: ones(*size, **options))
    monkeypatch.setattr(torch, "_int_mm", broken)
    found = int8_linear.int_mm_fault.__wrapped__(torch.device("cuda", 0))
    assert found == "needs torch._int_mm, which fails here: _int_mm_out_cuda not compiled"
    monkeypatch.delattr(torch, "_int_mm")
    assert int8_linear.int_mm_fault.__wrapped__(torch.device("cuda", 0)).startswith("needs torch._int_mm")


WITHOUT_TRITON = """
import importlib.util, sys
sys.modules["triton"] = None  # an import of it fails
root = sys.argv[1]
spec = importlib.util.spec_from_file_location("wan_gguf", root + "/__init__.py", submodule_search_locations=[root])
sys.modules["wan_gguf"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["wan_gguf"])
import torch
from wan_gguf.ops.dispatch import choose_linear
from wan_gguf.ops.formats import FORMATS
from wan_gguf.ops.packed import PackedWeight
packed = PackedWeight(torch.zeros(144, dtype=torch.uint8), FORMATS["Q4_K"], (1, 256))
print(choose_linear(torch.zeros(1, 256), packed).explain())
"""


def test_the_pack_works_without_triton(root):
    command = [sys.executable, "-c", WITHOUT_TRITON, str(root)]
    done = subprocess.run(command, cwd=root.parent, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "triton.linear needs the triton package" in done.stdout
