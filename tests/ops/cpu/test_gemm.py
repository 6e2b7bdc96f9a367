"""The fused products against the reference: every format, odd sizes, strides, dtypes, tiles and numbers of threads."""

import dataclasses

import pytest
import torch

from wan_gguf.ops.backends.cpu import fused, gemm, machine
from wan_gguf.ops.backends.cpu.formats import DECODERS
from wan_gguf.ops.backends.cpu.kinds import Int8Quads, Int16Pairs
from wan_gguf.ops.backends.cpu.tile import PANEL_ROWS, Tile
from wan_gguf.ops.backends.reference import int8_linear as reference_int8
from wan_gguf.ops.dequantize import dequantize
from wan_gguf.ops.dispatch import choose_linear
from wan_gguf.ops.row_scales import row_scales
from wan_gguf.tests.loaders.build import packed_weight

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SIZES = [(1, 256, 8), (7, 512, 24), (8, 256, PANEL_ROWS), (9, 768, PANEL_ROWS + 8), (50, 512, 200), (130, 1024, 64)]


def activations(shape, dtype=torch.float32) -> torch.Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    x[..., 3] *= 20  # a loud channel
    return x.to(dtype)


def check_exact(x, packed, bias):
    """Weights are not rounded, sums are float32 in any order (k * 2^-24 of the absolute products), the result is
    rounded to x.dtype once."""
    found, weight = gemm.exact(x, packed, bias), dequantize(packed).double()
    exact = x.double() @ weight.T + (0 if bias is None else bias.double())
    absolute = x.double().abs() @ weight.abs().T + (0 if bias is None else bias.double().abs())
    info = torch.finfo(x.dtype)
    bound = info.eps / 2 * exact.abs() + (packed.shape[1] + 2) * 2.0**-24 * absolute + info.smallest_normal
    assert found.shape == exact.shape
    assert found.dtype == x.dtype
    assert ((found.double() - exact).abs() <= bound).all()


def check_int8(x, packed, bias):
    """Both sides sum the same integers; the reference's are float32 sums, exact below 2^24 (here k <= 1024). Only the
    scaling and the 16 exact columns are rounded in another order: 32 roundings of the parts."""
    found, expected = gemm.int8(x, packed, bias), reference_int8.run(x, packed, bias)
    assert found.shape == expected.shape
    assert found.dtype == x.dtype
    scale = expected.double().abs().amax()
    assert ((found.double() - expected.double()).abs() <= (torch.finfo(x.dtype).eps + 32 * 2.0**-24) * scale).all()


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("check", [check_exact, check_int8])
def test_every_format(name, check):
    check(activations((26, 512)), packed_weight(name, (PANEL_ROWS + 16, 512)), torch.arange(PANEL_ROWS + 16.0))


@pytest.mark.parametrize(("m", "k", "n"), SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("check", [check_exact, check_int8])
def test_sizes_and_dtypes(m, k, n, dtype, check):
    check(activations((m, k), dtype), packed_weight("Q4_K", (n, k)), None)


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("vectors", [1, 3])
def test_tiles_of_other_cpus(lanes, vectors, monkeypatch):
    """Registers of 4 (NEON) and 16 numbers (AVX512): the compiler splits or pads what this CPU does not have."""
    monkeypatch.setattr(gemm, "choose_tile", lambda tokens, spare: Tile(lanes, vectors, 8))
    check_exact(activations((37, 512)), packed_weight("Q5_K", (104, 512)), torch.arange(104.0))
    if lanes < 16:
        check_int8(activations((37, 512)), packed_weight("Q5_K", (104, 512)), torch.arange(104.0))


@pytest.mark.parametrize("product", [gemm.exact, gemm.int8])
@pytest.mark.parametrize("view", ["batched", "sliced", "transposed", "expanded"])
def test_inputs_that_are_not_contiguous(product, view):
    x = {
        "batched": activations((2, 3, 512)),
        "sliced": activations((6, 3, 1024))[::2, :, 256:768],
        "transposed": activations((512, 6)).t(),
        "expanded": activations((1, 512)).expand(4, 512),
    }[view]
    packed = packed_weight("Q8_0", (16, 512))
    assert torch.equal(product(x, packed, None), product(x.contiguous(), packed, None))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_token_gives_the_same_bits_alone_and_in_any_batch(dtype):
    x, packed = activations((61, 768), dtype), packed_weight("Q4_K", (112, 768))
    together = gemm.exact(x, packed, None)
    for at in (0, 7, 23, 24, 60):
        assert torch.equal(gemm.exact(x[at : at + 1], packed, None)[0], together[at])
    assert torch.equal(gemm.exact(x[5:40], packed, None), together[5:40])


@pytest.mark.parametrize("product", [gemm.exact, gemm.int8])
def test_threads_do_not_change_the_bits(product):
    x, packed = activations((50, 512)), packed_weight("Q6_K", (5 * PANEL_ROWS, 512))
    before, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(product(x, packed, None))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("product", [gemm.exact, gemm.int8])
def test_rounds_of_tokens_give_the_same_as_one(product, monkeypatch):
    x, packed = activations((50, 512)), packed_weight("Q4_K", (24, 512))
    whole = product(x, packed, None)
    monkeypatch.setattr(gemm, "PACKED_BYTES", 17 * 512 * 4)  # 17 tokens a round
    assert torch.equal(product(x, packed, None), whole)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "k", "n"), SIZES)
def test_bytes_and_pairs_of_integers_give_the_same_bits(m, k, n, dtype, monkeypatch):
    """What CPUs with VNNI compute, spelled out here, and what those without do: the same integers, summed exactly."""
    x, packed = activations((m, k), dtype), packed_weight("Q4_K", (n, k))
    results = []
    for kind in (Int16Pairs(), Int8Quads(emulated=True)):
        monkeypatch.setattr(gemm, "integer_kind", lambda kind=kind: kind)
        results.append(gemm.int8(x, packed, None))
    assert torch.equal(*results)


def test_what_refuses_is_the_kind_that_will_run(monkeypatch):
    """A CPU with VNNI needs nothing of what the pairs need."""
    cpu = machine.Machine("x86_64-linux-gnu", "other", frozenset({"avx2", "fma", "avx512f", "avx512vnni"}))
    monkeypatch.setattr(machine, "machine", lambda: cpu)
    monkeypatch.setattr(gemm, "machine", lambda: cpu)
    assert Int16Pairs.refuses(cpu) == "needs a CPU with AVX512BW"
    assert fused.refuses(activations((40, 256)), packed_weight("Q4_K", (8, 256)), "int8", "int8") is None


def test_int8_takes_the_row_scales_that_were_kept():
    x, packed = activations((9, 512)), packed_weight("Q4_K", (32, 512))
    kept = dataclasses.replace(packed, row_scale=row_scales(packed))
    assert torch.equal(gemm.int8(x, kept, None), gemm.int8(x, packed, None))
    doubled = dataclasses.replace(packed, row_scale=row_scales(packed) * 2)
    assert not torch.equal(gemm.int8(x, doubled, None), gemm.int8(x, packed, None))


@pytest.mark.parametrize(
    ("shape", "x", "mode", "reason"),
    [
        ((12, 256), torch.zeros(2, 256), "exact", "takes whole groups of 8 rows and 256 columns"),
        ((16, 128), torch.zeros(2, 128), "exact", "takes whole groups of 8 rows and 256 columns"),
        ((16, 256), torch.zeros(2, 256).double(), "exact", "takes float32, bfloat16, float16 only"),
        ((16, 256), torch.zeros(2, 256).requires_grad_(), "exact", "computes no gradients"),
    ],
)
def test_what_it_cannot_do_is_refused_with_a_reason(shape, x, mode, reason):
    choice = choose_linear(x, packed_weight("Q8_0", shape), None, mode)
    assert ("cpu.linear", reason) in choice.refused
