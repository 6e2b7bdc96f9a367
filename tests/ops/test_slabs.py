"""Linear layers some rows at a time."""

import pytest
import torch

from wan_gguf.ops.dequantize import dequantize
from wan_gguf.ops.formats import FORMATS
from wan_gguf.ops.packed import PackedWeight
from wan_gguf.ops.slabs import linear_by_slabs, slab_rows
from wan_gguf.tests.loaders.build import packed_weight

PACKED = packed_weight("Q8_0", (19, 256))
X, BIAS = torch.randn(2, 3, 256, generator=torch.Generator().manual_seed(1)), torch.arange(19.0)


@pytest.mark.parametrize(("rows", "slabs"), [(4, [4, 4, 4, 4, 3]), (19, [19]), (100, [19])])
def test_every_row_is_decoded_once(rows, slabs):
    """Each output is a dot product of 256 numbers; a GEMM of another width may sum in another order."""
    seen = []

    def decode(part):
        seen.append(part.shape[0])
        return dequantize(part)

    found = linear_by_slabs(X, PACKED, BIAS, rows, decode)
    torch.testing.assert_close(found, X @ dequantize(PACKED).T + BIAS, rtol=1e-5, atol=1e-3)
    assert seen == slabs


def test_the_gradient_passes_through_slabs():
    x = X.clone().requires_grad_()
    linear_by_slabs(x, PACKED, None, 4, dequantize).sum().backward()
    torch.testing.assert_close(x.grad, dequantize(PACKED).sum(0).expand(2, 3, 256))


def test_rows_that_fit():
    assert slab_rows(PACKED, torch.float32, 4 * 256 * 4) == 4
    assert slab_rows(PACKED, torch.bfloat16, 4 * 256 * 4) == 8
    assert slab_rows(PACKED, torch.float32, 1) == 1
    empty = PackedWeight(torch.empty(0, dtype=torch.uint8), FORMATS["F32"], (3, 0))
    assert slab_rows(empty, torch.float32, 64) == 64
