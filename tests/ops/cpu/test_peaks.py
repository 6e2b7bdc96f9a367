"""Peaks of rows, tokens and columns: exactly torch's, NaN included."""

import pytest
import torch

from wan_gguf.ops.backends.cpu import peaks
from wan_gguf.ops.backends.cpu.formats import DECODERS
from wan_gguf.ops.backends.reference import row_peaks as reference
from wan_gguf.tests.loaders.build import packed_weight


@pytest.mark.parametrize("name", DECODERS)
def test_rows(name):
    packed = packed_weight(name, (301, 512))
    assert torch.equal(peaks.row_peaks(packed), reference.run(packed))


def test_rows_of_parts_of_a_block_are_refused():
    assert peaks.refuses(packed_weight("F16", (32, 5))) == "takes rows of whole blocks of 32"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_tokens_and_columns(dtype):
    x = torch.randn(37, 512, generator=torch.Generator().manual_seed(1)).to(dtype)[:, 128:448]
    keep = torch.full((320,), -1, dtype=torch.int32)
    keep[[0, 17, 319]] = 0
    assert torch.equal(peaks.column_peaks(x), x.abs().amax(0).float())
    kept = x.clone()
    kept[:, keep == 0] = 0
    assert torch.equal(peaks.token_peaks(x, keep), kept.abs().amax(1).float())


def test_nan_is_not_lost():
    """Or a broken layer would give numbers again, and the sampler would not stop."""
    x = torch.ones(3, 64)
    x[1, 5] = float("nan")
    keep = torch.full((64,), -1, dtype=torch.int32)
    assert peaks.token_peaks(x, keep).isnan().tolist() == [False, True, False]
    assert peaks.column_peaks(x).isnan().nonzero().tolist() == [[5]]
