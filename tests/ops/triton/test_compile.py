"""Every kernel compiles down to machine code for GPUs that are not here, without spilling a register.

Every launch of the backend's own code is compiled, with the arguments it really gets (see absent_gpu.py). The full
product of kernels, formats, dtypes and GPUs would take many minutes, so compiled are

* decoding to bfloat16: every format for every GPU; to the other dtypes: every format for Ada;
* int8 weights and few tokens: every format for Turing (no bfloat16 instructions, fewest registers), and for the other
  GPUs Q5_K, which needs most registers;
* the kernels that do not depend on the format: for every GPU with bfloat16, the other dtypes for Turing.

Compiled kernels are kept in pytest's cache folder; Triton's keys cover sources, options and target.
"""

import re

import pytest
import torch

pytest.importorskip("triton", reason="Triton has no wheel for this platform")

from wan_gguf.ops.backends.triton import activations, decode, int8_linear, linear, machine, row_peaks, small_m
from wan_gguf.ops.backends.triton.decode_int8 import decode_columns, decode_int8
from wan_gguf.ops.backends.triton.formats import FUNCTIONS
from wan_gguf.ops.backends.triton.int8_epilogue import epilogue
from wan_gguf.ops.int8 import OUTLIERS, scale_of
from wan_gguf.tests.loaders.build import packed_weight
from wan_gguf.tests.ops.triton.absent_gpu import AbsentGpu, Launch, absent_gpu

ALL = list(FUNCTIONS)
NVIDIA = [75, 80, 86, 89, 90, 120]  # Turing, Ampere (A100, RTX 30), Ada (RTX 40), Hopper, Blackwell (RTX 50)
AMD = ["gfx1100", "gfx942"]  # RDNA 3 (RX 7900), CDNA 3 (MI300)
OTHERS = [arch for arch in NVIDIA + AMD if arch != 75]
MULTIPLY_ADD = re.compile(r"\bfma\.|\bmad\.\w*f32|\bv_(?:pk_)?(?:fma|fmac|mad|mac)_\w*f(?:32|16)")


@pytest.fixture(autouse=True)
def _kept(request, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(request.config.cache.mkdir("triton")))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


def check(gpu: AbsentGpu, *kernels: str) -> list[Launch]:
    """These kernels were launched, in this order, and none spills."""
    assert [launch.kernel for launch in gpu.launches] == [f"{kernel}_kernel" for kernel in kernels]
    assert {launch.kernel: launch.spills for launch in gpu.launches if launch.spills} == {}
    return gpu.launches


def columns_of(k: int) -> torch.Tensor:
    return torch.arange(k, dtype=torch.int8).clamp(max=OUTLIERS) % OUTLIERS


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("arch", NVIDIA + AMD)
def test_decode(name, arch):
    """No multiplication may be fused with the addition after it: the bits would differ from gguf-py's."""
    with absent_gpu(arch) as gpu:
        decode.decode(packed_weight(name, (3, 256)), torch.bfloat16)
    (launch,) = check(gpu, "decode")
    assert not MULTIPLY_ADD.search(launch.code)
    if isinstance(arch, int):
        assert "mul.rn.f32" in launch.code
        assert not re.search(r"mul\.f32|\.ftz", launch.code), "could be fused by ptxas, or flush small scales to zero"
        assert ("cvt.rn.bf16x2.f32" in launch.code) == (arch >= 80), "rounds to nearest even"


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_decode_to_other_dtypes(name, dtype):
    with absent_gpu(89) as gpu:
        decode.decode(packed_weight(name, (3, 256)), dtype)
    (launch,) = check(gpu, "decode")
    assert not MULTIPLY_ADD.search(launch.code)


def test_the_search_for_fused_operations_finds_them(monkeypatch):
    """Without the option, Q4_K's d * q - m is contracted: what the option is for."""
    monkeypatch.setitem(decode.EXACT, "enable_fp_fusion", True)
    for arch in (89, "gfx942"):
        with absent_gpu(arch) as gpu:
            decode.decode(packed_weight("Q4_K", (3, 256)), torch.float32)
        assert MULTIPLY_ADD.search(gpu.launches[0].code)


@pytest.mark.parametrize(("name", "arch"), [(name, 75) for name in ALL] + [("Q5_K", arch) for arch in OTHERS])
def test_int8_weights(name, arch):
    packed = packed_weight(name, (3, 512))
    with absent_gpu(arch) as gpu:
        scales = scale_of(row_peaks.run(packed))
        decode_int8(packed, scales)
        decode_columns(packed, torch.arange(OUTLIERS))
    check(gpu, "row_peaks", "decode_int8", "decode_columns")


@pytest.mark.parametrize(
    ("arch", "dtype"),
    [(75, torch.float32), (75, torch.float16)] + [(arch, torch.bfloat16) for arch in NVIDIA + AMD],
)
def test_int8_activations_and_epilogue(arch, dtype):
    """With a bias and without, to a whole tensor and to some columns of one."""
    x, bias = torch.zeros(5, 96, dtype=dtype), torch.zeros(24, dtype=dtype)
    with absent_gpu(arch) as gpu:
        a = activations.quantize(x)
        sums, kept = torch.zeros(5, 24, dtype=torch.int32), torch.zeros(OUTLIERS, 24)
        epilogue(sums, a.scale, torch.ones(24), a.kept, kept, bias, x.new_empty(5, 24))
        epilogue(sums, a.scale, torch.ones(24), a.kept, kept, None, x.new_empty(5, 48)[:, :24])
    check(gpu, "column_peaks", "quantize", "epilogue", "epilogue")


@pytest.mark.parametrize(("name", "arch"), [(name, 75) for name in ALL] + [("Q5_K", arch) for arch in OTHERS])
def test_few_tokens(name, arch):
    packed = packed_weight(name, (3, 512))
    with absent_gpu(arch) as gpu:
        small_m.run(torch.zeros(1, 512, dtype=torch.bfloat16), packed, torch.zeros(3))
        small_m.run(torch.zeros(small_m.MAX_TOKENS, 512), packed, None)
    check(gpu, "small_m", "small_m")


@pytest.mark.parametrize("m", [2, 4, 8])
def test_numbers_of_tokens(m):
    with absent_gpu(89) as gpu:
        small_m.run(torch.zeros(m, 512, dtype=torch.float16), packed_weight("Q4_K", (3, 512)), None)
    check(gpu, "small_m")


def test_the_linear_layers_launch_nothing_else():
    """What the layers launch are the kernels above."""
    x, packed = torch.zeros(17, 256), packed_weight("Q4_K", (24, 256))
    with absent_gpu(89) as gpu:
        linear.run(x, packed, None)
        int8_linear.run(x, packed, torch.zeros(24))
    check(gpu, "decode", "row_peaks", "column_peaks", "quantize", "decode_int8", "decode_columns", "epilogue")


@pytest.mark.parametrize("name", ALL)
def test_unaligned_data_and_sizes_of_one(name):
    """Data at an address that is only even, and one row of one block: Triton compiles other variants for both."""
    packed = packed_weight(name, (1, 256))
    moved = torch.cat((torch.zeros(2, dtype=torch.uint8), packed.data))[2:]
    one = type(packed)(moved, packed.format, (1, 256)).rows(0, 1)
    with absent_gpu(86) as gpu:
        decode.decode(one, torch.bfloat16)
    check(gpu, "decode")


def test_the_trial_kernel():
    with absent_gpu(75) as gpu:
        machine._write_one[(1,)](torch.zeros(1, dtype=torch.int32))
    assert [launch.kernel for launch in gpu.launches] == ["_write_one"]
