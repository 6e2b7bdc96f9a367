"""Every kernel compiles for CPUs that are not here, with the instructions it is written for and no register spilled."""

import re

import pytest
from llvmlite import binding as llvm

from wan_gguf.ops.backends.cpu import decode_emit, gemm_emit, pack_emit, peaks_emit, tile
from wan_gguf.ops.backends.cpu.formats import DECODERS, lookup
from wan_gguf.ops.backends.cpu.kinds import Float32, Int8Quads, Int16Pairs
from wan_gguf.ops.backends.cpu.machine import Machine

AVX2 = {"sse2", "ssse3", "avx", "avx2", "fma", "f16c"}
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512vl", "avx512dq"}
LINUX, WINDOWS, MACOS, ARM = "x86_64-linux-gnu", "x86_64-pc-windows-msvc", "arm64-apple-macosx", "aarch64-linux-gnu"
CPUS = {  # name -> triple, features
    "haswell": (LINUX, AVX2),
    "alderlake": (WINDOWS, AVX2 | {"avxvnni"}),
    "skylake-avx512": (WINDOWS, AVX512),
    "icelake-server": (LINUX, AVX512 | {"avx512vnni"}),
    "znver5": (LINUX, AVX512 | {"avx512vnni", "avx512bf16", "avxvnni"}),
    "apple-m1": (MACOS, {"neon"}),
    "neoverse-n1": (ARM, {"neon"}),
}
PRODUCTS = {Float32(): r"vfmadd\w+ps|fmla", Int16Pairs(): r"vpmaddwd|vpdpwssd", Int8Quads(): "vpdpbusd"}


@pytest.fixture(params=CPUS)
def other(request, monkeypatch):
    """The kernels are built for this CPU; `compile` returns assembly instead of something to call."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    triple, features = CPUS[request.param]
    machine = Machine(triple, request.param, frozenset(features))
    monkeypatch.setattr(Machine, "compile", lambda self, module, name: self.assembly(module))
    for module in (decode_emit, gemm_emit, pack_emit, peaks_emit, tile, lookup):
        monkeypatch.setattr(module, "machine", lambda: machine)
    return machine


def innermost(assembly: str, instruction: str) -> str:
    """The loop with most of these instructions, from its label to the jump back: the one over k."""
    loops = re.findall(
        r"^(\.?\w+):((?:(?!^\S).)*?\s(?:j\w+|b\.\w+|tbn?z.*|cbn?z.*)\s+\1)$", assembly, re.DOTALL | re.MULTILINE
    )
    return max((body for _, body in loops), key=lambda body: len(re.findall(instruction, body)))


@pytest.mark.parametrize("kind", PRODUCTS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("tokens", [1, 32, 1000])
def test_the_product_stays_in_registers(other, kind, tokens):
    if kind.refuses(other):
        assert kind != Float32()  # every CPU has that one
        return
    shape = tile.choose_tile(tokens, kind.spare_registers)
    # not the cached ones, which are for this machine
    loop = innermost(gemm_emit.gemm_kernel.__wrapped__("Q4_K", kind, shape, "float32"), PRODUCTS[kind])
    assert len(re.findall(PRODUCTS[kind], loop)) == shape.rows * shape.vectors * kind.unroll
    assert not re.search(r"[Ss]pill|[Rr]eload|\(%rsp\)|\[sp", loop)
    assert pack_emit.pack_kernel.__wrapped__(kind, shape, "bfloat16")


def test_every_decoder_compiles(other):
    for name in DECODERS:
        assert peaks_emit.row_peaks_kernel.__wrapped__(name)
        for dtype in ("float32", "bfloat16", "float16"):
            assembly = decode_emit.decode_kernel.__wrapped__(name, dtype)
            assert not re.search(r"__\w+(hf|bf)\w*2", assembly), "calls a helper that does not exist at run time"


def test_a_feature_that_a_virtual_machine_hides_is_not_used(monkeypatch):
    """LLVM takes a CPU's features from its name unless they are switched off one by one."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    monkeypatch.setattr(Machine, "compile", lambda self, module, name: self.assembly(module))
    texts = []
    for missing in (frozenset(), AVX512 - AVX2):
        hidden = Machine(LINUX, "znver5", frozenset(AVX2), missing)
        monkeypatch.setattr(decode_emit, "machine", lambda hidden=hidden: hidden)
        texts.append(decode_emit.decode_kernel.__wrapped__("Q4_K", "float32"))
    assert "%zmm" in texts[0]
    assert "%zmm" not in texts[1]
