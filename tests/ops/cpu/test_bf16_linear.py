"""Decode to bfloat16, then torch's GEMM: right on every CPU, chosen only where it is fast."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from wan_gguf.ops.backends.cpu import bf16_linear
from wan_gguf.ops.dequantize import dequantize
from wan_gguf.ops.dispatch import choose_linear
from wan_gguf.tests.loaders.build import packed_weight

X = torch.randn(2, 20, 256, generator=torch.Generator().manual_seed(3)).bfloat16()


@pytest.mark.parametrize("slab_bytes", [16 << 20, 5 * 256 * 2, 1])
def test_slabs_give_what_one_product_gives(slab_bytes, monkeypatch):
    """Each output is one dot product of the same numbers; a GEMM of another width may sum in another order, which
    changes the last bit of the bfloat16 result at most."""
    monkeypatch.setattr(bf16_linear, "SLAB_BYTES", slab_bytes)
    packed, bias = packed_weight("Q4_K", (23, 256)), torch.arange(23.0)
    expected = F.linear(X, dequantize(packed, torch.bfloat16), bias.bfloat16())
    torch.testing.assert_close(bf16_linear.run(X, packed, bias), expected, rtol=2**-7, atol=1e-3)


def test_it_is_chosen_where_bf16_is_native(monkeypatch):
    packed = packed_weight("Q4_K", (24, 256))
    monkeypatch.setattr(bf16_linear, "has_native_bf16", lambda: True)
    chosen = choose_linear(X, packed).kernel
    assert chosen is not None
    assert chosen.name == "cpu.bf16_linear"
    assert choose_linear(X[0, :5], packed).kernel is not chosen
    assert choose_linear(X.float(), packed).kernel is not chosen
    monkeypatch.setattr(bf16_linear, "has_native_bf16", lambda: False)
    assert choose_linear(X, packed).kernel is not chosen
