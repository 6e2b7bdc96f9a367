"""The VAE's attention: the host's bits in one slice, and slices that follow from the size of a frame alone."""

import comfy.ldm.modules.diffusionmodules.model as host_model
import pytest
import torch

from wan_gguf.host import vae_attention
from wan_gguf.host.vae_attention import attention, slice_rows

# float32 sums of 96 products of values near 1 round by about 96 * 2^-24 of their size, and softmax's by as much again
ROUNDING = 2 * 96 * 2**-24


def qkv(n=1, channels=96, height=9, width=7, dtype=torch.float32):
    """As the host hands them over: thirds of one tensor."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn((n, 3 * channels, height, width), generator=generator).to(dtype).chunk(3, dim=1)


def by_definition(q, k, v):
    """In float64, position by position."""
    n, channels, height, width = q.shape
    q, k, v = (x.reshape(n, channels, -1).double() for x in (q, k, v))
    weights = torch.einsum("ncq,nck->nqk", q, k) / channels**0.5
    return torch.einsum("nqk,nck->ncq", weights.softmax(-1), v).reshape(n, channels, height, width)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(1, 1), (9, 7), (40, 26)])
def test_one_slice_has_the_bits_of_the_host_with_room(size, dtype, n):
    inputs = qkv(n, 96, *size, dtype)
    kept = [x.clone() for x in inputs]
    assert torch.equal(attention(*inputs), host_model.normal_attention(*inputs))
    assert all(torch.equal(x, copy) for x, copy in zip(inputs, kept, strict=True))


@pytest.mark.parametrize("slice_bytes", [1, 63 * 4, 1000, 63 * 63 * 4 - 1, 1 << 30])
@pytest.mark.parametrize("n", [1, 2])
def test_any_number_of_slices_computes_the_same(slice_bytes, n, monkeypatch):
    inputs = qkv(n)
    monkeypatch.setattr(vae_attention, "SLICE_BYTES", slice_bytes)
    assert (attention(*inputs) - by_definition(*inputs)).abs().max() < ROUNDING


@pytest.mark.parametrize(
    ("height", "width", "dtype", "rows"),
    [
        (60, 104, torch.float32, 60 * 104),  # 832 x 480 with Wan 2.1
        (90, 160, torch.float32, 90 * 160),  # 1280 x 720
        (128, 128, torch.float32, 128 * 128),
        (135, 240, torch.float32, 8100),  # 1920 x 1080: four slices
        (270, 480, torch.float32, 2058),  # 3840 x 2160: 63
        (270, 480, torch.bfloat16, 4050),
    ],
)
def test_the_size_alone_decides_the_slices(height, width, dtype, rows):
    for n in (1, 2):  # the decoder hands over one frame, then two at once
        q = torch.empty((n, 384, height * width), dtype=dtype, device="meta")
        assert slice_rows(q) == rows
        assert rows * height * width * q.element_size() <= vae_attention.SLICE_BYTES
