"""triton.small_m: few tokens, every format, odd numbers of rows."""

import pytest
import torch

from wan_gguf.ops.backends.reference.decode import decode as reference
from wan_gguf.ops.backends.triton.small_m import MAX_TOKENS, run
from wan_gguf.tests.loaders.build import packed_weight
from wan_gguf.tests.ops.triton.interpreted.same import ALL, DTYPES, assert_linear


def tokens(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3)).to(dtype)


def check(x, packed, bias):
    assert_linear(run(x, packed, bias), x, reference(packed, x.dtype), bias)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_format(name, dtype):
    check(tokens(3, 768, dtype=dtype), packed_weight(name, (7, 768)), tokens(7))


@pytest.mark.parametrize("m", [1, 2, 5, 8, MAX_TOKENS])
@pytest.mark.parametrize("with_bias", [False, True])
def test_tokens(m, with_bias):
    check(tokens(m, 512), packed_weight("Q4_K", (13, 512)), tokens(13) if with_bias else None)


@pytest.mark.parametrize("k", [32, 96, 544, 1056])
def test_rows_that_end_inside_a_tile(k):
    check(tokens(2, k), packed_weight("Q8_0", (5, k)), None)


@pytest.mark.parametrize("shape", [(256,), (0, 256), (2, 3, 256), (2, 0, 256)])
def test_shapes(shape):
    packed = packed_weight("Q4_0", (5, 256))
    found = run(tokens(*shape), packed, None)
    assert found.shape == (*shape[:-1], 5)
    assert_linear(found, tokens(*shape), reference(packed, torch.float32), None)


def test_input_that_is_not_contiguous():
    check(tokens(512, 3).t(), packed_weight("Q5_K", (4, 512)), None)


def test_the_weight_is_rounded_to_the_dtype_of_x():
    """One token that picks a single weight: the output is that weight in bfloat16, not in float32."""
    packed, x = packed_weight("Q4_K", (9, 256)), torch.zeros(1, 256, dtype=torch.bfloat16)
    x[0, 77] = 1
    assert torch.equal(run(x, packed, None)[0], reference(packed, torch.bfloat16)[:, 77])
