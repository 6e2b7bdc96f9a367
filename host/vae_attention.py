"""The attention in the middle of the host's Wan VAEs, in slices whose number depends on the size of a frame alone.

The host cuts it into as many slices as fit the memory that is free just then, and a product over fewer rows may sum in
another order; so the bits of a frame would depend on what else runs. Here a frame is one slice as long as its weights
take no more than `SLICE_BYTES`, which gives the host's bits where it has room. The decoder hands over two frames at
once, and softmax's result lies beside its input: 4 GiB at most, which is less than the largest layers take for frames
of that size (16 GB; for a single frame 2 GiB and 2.3 GB, measured with Wan 2.1).
"""

import math

import torch

SLICE_BYTES = 1 << 30  # of one frame, 16384 positions in float32: 720p takes 0.8 GiB with Wan 2.1, 0.05 with 2.2


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """softmax(q k / sqrt(C)) v over the positions of a frame, one head. All (N, C, H, W), as is the result."""
    shape = q.shape
    q, k, v = (x.reshape(*shape[:2], -1) for x in (q, k, v))  # (N, C, positions)
    rows, scale = slice_rows(q), shape[1] ** -0.5
    slices = [_of_rows(part, k, v, scale) for part in q.transpose(1, 2).split(rows, dim=1)]
    return (slices[0] if len(slices) == 1 else torch.cat(slices, dim=2)).reshape(shape)


def slice_rows(q: torch.Tensor) -> int:
    """Of q (N, C, positions): how many positions of each frame are computed at once, whatever N is."""
    positions = q.shape[2]
    slices = math.ceil(positions * positions * q.element_size() / SLICE_BYTES)
    return math.ceil(positions / slices)


def _of_rows(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    """q (N, rows, C), k and v (N, C, positions) -> (N, C, rows)."""
    weights = torch.bmm(q, k).mul_(scale).softmax(dim=2)
    return torch.bmm(v, weights.transpose(1, 2))
