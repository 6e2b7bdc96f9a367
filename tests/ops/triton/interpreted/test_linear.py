"""triton.linear: decode, then torch's GEMM, in one piece and in slabs of rows."""

import pytest
import torch

from wan_gguf.ops.backends.reference.decode import decode as reference
from wan_gguf.ops.backends.triton import linear as module
from wan_gguf.tests.loaders.build import packed_weight
from wan_gguf.tests.ops.triton.interpreted.same import ALL, assert_linear


def tokens(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("rows_at_a_time", [1000, 4])
def test_in_one_piece_and_in_slabs(name, rows_at_a_time, monkeypatch):
    monkeypatch.setattr(module, "SCRATCH_BYTES", rows_at_a_time * 256 * 4)
    x, packed, bias = tokens(2, 3, 256), packed_weight(name, (19, 256)), tokens(19)
    assert_linear(module.run(x, packed, bias), x, reference(packed, x.dtype), bias)


@pytest.mark.parametrize("rows_at_a_time", [1000, 4])
def test_gradient_reaches_the_input(rows_at_a_time, monkeypatch):
    monkeypatch.setattr(module, "SCRATCH_BYTES", rows_at_a_time * 256 * 4)
    x, packed = tokens(3, 256).requires_grad_(), packed_weight("Q8_0", (9, 256))
    module.run(x, packed, None).sum().backward()
    torch.testing.assert_close(x.grad, reference(packed, torch.float32).sum(0).expand(3, 256))
