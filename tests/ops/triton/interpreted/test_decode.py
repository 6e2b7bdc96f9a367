"""triton.decode against the reference decoders, bit for bit."""

import builtins

import pytest
import torch
from triton.runtime import interpreter

from wan_gguf.ops.backends.reference.decode import decode as reference
from wan_gguf.ops.backends.triton import decode as module
from wan_gguf.ops.backends.triton import machine
from wan_gguf.ops.backends.triton.decode import decode
from wan_gguf.ops.backends.triton.formats import FUNCTIONS
from wan_gguf.ops.formats import FORMATS
from wan_gguf.ops.packed import PackedWeight
from wan_gguf.tests.ops.triton.interpreted.same import ALL, DTYPES, assert_same_bits, random_weight


@pytest.mark.parametrize("name", ALL)
def test_a_block_is_whole_runs(name):
    assert FUNCTIONS[name].subs * FUNCTIONS[name].elems == FORMATS[name].block_elems


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "k"), [(1, 256), (13, 1280)], ids=["one_row", "several_tiles_the_last_one_short"])
def test_random_bytes(name, dtype, n, k):
    packed = random_weight(name, n, k)
    assert_same_bits(decode(packed, dtype), reference(packed, dtype))


@pytest.mark.parametrize("name", ALL)
def test_every_byte_value_in_every_place(name):
    """256 blocks of equal bytes: each nibble, scale and table entry at each position of a block."""
    size = FORMATS[name].block_bytes
    data = torch.arange(256, dtype=torch.uint8)[:, None].expand(256, size).reshape(-1)
    packed = PackedWeight(data, FORMATS[name], (256, FORMATS[name].block_elems))
    assert_same_bits(decode(packed, torch.float32), reference(packed, torch.float32))


@pytest.mark.parametrize("name", ["Q4_K", "Q8_0"])
def test_data_that_is_only_aligned_to_two_bytes(name):
    packed = random_weight(name, 3, 512)
    moved = torch.cat((torch.zeros(2, dtype=torch.uint8), packed.data))[2:]
    assert moved.data_ptr() % 4 == 2
    found = decode(PackedWeight(moved, packed.format, packed.shape), torch.float32)
    assert_same_bits(found, reference(packed, torch.float32))


@pytest.mark.parametrize("shape", [(0, 256), (2, 3, 512), (512,)])
def test_shapes(shape):
    packed = random_weight("Q6_K", 1, 256 * max(1, torch.Size(shape).numel() // 256))
    packed = packed.reshape(shape) if torch.Size(shape).numel() else random_weight("Q6_K", *shape)
    assert_same_bits(decode(packed, torch.float32), reference(packed, torch.float32))


def test_more_than_2_to_the_31_elements(monkeypatch):
    """Only the last program runs. The tensors are sparse: pages nobody touches take no memory."""
    rows, k = (1 << 31) // 4096 + 3, 4096
    tail = random_weight("Q4_0", 1, k)
    data = torch.empty(rows * FORMATS["Q4_0"].row_bytes(k), dtype=torch.uint8)
    data[-tail.nbytes :] = tail.data
    out = torch.empty((rows, k), dtype=torch.bfloat16)
    assert k == module.TILE_ELEMS, "the last program has to be the last row"
    monkeypatch.setattr(
        interpreter, "range", lambda *a: builtins.range(*a)[-1:] if len(a) == 1 else builtins.range(*a), raising=False
    )
    module.run(PackedWeight(data, FORMATS["Q4_0"], (rows, k)), out)
    assert_same_bits(out[-1:], reference(tail, torch.bfloat16))


def test_the_trial_kernel_writes_one():
    found = torch.zeros(1, dtype=torch.int32)
    machine._write_one[(1,)](found)
    assert found.item() == 1
