"""PackedWeight: consistency and reshaping; dequantisation whole and by rows."""

import pytest
import torch

from wan_gguf.ops.backends.reference import decode as reference
from wan_gguf.ops.dequantize import dequantize, dequantize_rows
from wan_gguf.ops.formats import FORMATS
from wan_gguf.ops.packed import PackedWeight
from wan_gguf.tests.loaders.build import packed_weight

ALL = list(FORMATS)


def test_wrong_number_of_bytes_is_refused():
    with pytest.raises(ValueError, match=r"got 33 bytes; Q8_0 of shape \(1, 32\) takes 34"):
        PackedWeight(torch.zeros(33, dtype=torch.uint8), FORMATS["Q8_0"], (1, 32))


@pytest.mark.parametrize("data", [torch.zeros(34), torch.zeros(2, 17, dtype=torch.uint8)], ids=["float", "2-D"])
def test_data_that_is_not_flat_bytes_is_refused(data):
    with pytest.raises(ValueError, match="a contiguous 1-D uint8 tensor"):
        PackedWeight(data, FORMATS["Q8_0"], (1, 32))


def test_reshape_keeps_bytes_and_refuses_straddling():
    packed = packed_weight("Q8_0", (6, 64))
    again = packed.reshape((1, 6, 64))
    assert again.data.data_ptr() == packed.data.data_ptr()
    assert torch.equal(dequantize(again), dequantize(packed).view(1, 6, 64))
    assert packed.reshape((12, 32)).shape == (12, 32)
    with pytest.raises(ValueError, match="multiple of 32"):
        packed.reshape((24, 16))
    with pytest.raises(ValueError, match="384 elements"):
        packed.reshape((6, 32))
    assert packed_weight("F16", (3, 4)).reshape((12, 1, 1)).shape == (12, 1, 1)


@pytest.mark.parametrize("name", ALL)
def test_chunks_give_the_same_as_one_piece(name, monkeypatch):
    packed = packed_weight(name, (11, 512))
    whole = reference.decode(packed, torch.float32)
    monkeypatch.setattr(reference, "CPU_CHUNK_ELEMS", 3 * 256)
    assert torch.equal(reference.decode(packed, torch.float32), whole)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(), (1,), (0,), (5,), (2, 3), (2, 0, 3)])
def test_rows_equal_rows_of_the_whole(name, dtype, shape):
    packed = packed_weight(name, (9, 256))
    rows = torch.randint(0, 9, shape, generator=torch.Generator().manual_seed(1))
    found = dequantize_rows(packed, rows, dtype)
    assert found.shape == (*shape, 256)
    assert torch.equal(found, dequantize(packed, dtype)[rows])


@pytest.mark.parametrize("row", [-1, 9, 2**40])
def test_a_row_outside_the_table_is_an_index_error(row):
    with pytest.raises(IndexError):
        dequantize_rows(packed_weight("Q8_0", (9, 256)), torch.tensor([row]))


def test_dequantize_rows_needs_a_matrix():
    with pytest.raises(ValueError, match=r"shape \(256,\); two dimensions"):
        dequantize_rows(packed_weight("Q8_0", (256,)), torch.tensor([0]))


@pytest.mark.parametrize("name", ALL)
def test_the_result_is_a_copy_and_can_be_written(name):
    """Plain formats decode to a view of read-only file memory; writing to the result must not reach it."""
    packed = packed_weight(name, (1, 256))
    before = packed.data.clone()
    dtype = {"F16": torch.float16, "BF16": torch.bfloat16}.get(name, torch.float32)
    dequantize(packed, dtype).fill_(1)
    dequantize_rows(packed, torch.tensor([0]), dtype).fill_(1)
    assert torch.equal(packed.data, before)
