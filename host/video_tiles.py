"""Spatial tiles of a frame: where they lie, and how their overlaps are blended.

Along each side a tile's weight is 1 where it is alone and falls linearly to its edge where another tile overlaps it.
The weights of the tiles at a pixel are divided by their sum, along each side for itself, so what all tiles agree on
keeps its value, and a pixel of one tile alone is that tile's, bit for bit.

Tiled frames are close to whole ones, not equal: the attention in the middle of Wan's decoder sees the whole frame, a
tile's sees the tile.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

OVERLAP = 4  # a tile overlaps its neighbours by one part in four, as in the host's own tiled decode


@dataclass(frozen=True)
class Tiling:
    """Square tiles of `tile` latent pixels (fewer where the frame is smaller); `stride` pixels each."""

    tile: int
    stride: int

    @classmethod
    def of_pixels(cls, tile_px: int, stride: int) -> "Tiling":
        """From the tile's side in pixels."""
        return cls(max(tile_px // stride, 2), stride)

    @property
    def overlap(self) -> int:
        """Latent pixels that neighbours share at least."""
        return max(self.tile // OVERLAP, 1)

    def covers(self, height: int, width: int) -> bool:
        """Whether one tile is the whole frame, so that there is nothing to tile."""
        return self.tile >= height and self.tile >= width

    def places(self, height: int, width: int) -> list[tuple[slice, slice]]:
        """(rows, columns) of all tiles in a latent of that size, from the upper left on."""
        return [(rows, columns) for rows in self._spans(height) for columns in self._spans(width)]

    def _spans(self, length: int) -> list[slice]:
        if length <= self.tile:
            return [slice(0, length)]
        starts = [*range(0, length - self.tile, self.tile - self.overlap), length - self.tile]
        return [slice(start, start + self.tile) for start in starts]

    def weights(self, length: int) -> dict[int, torch.Tensor]:
        """Start of each span along a side -> its pixels' weights, float32; at every pixel they add up to 1."""
        spans, ramp = self._spans(length), self.overlap * self.stride
        raw = {span.start: _ramps(span, length, self.stride, ramp) for span in spans}
        total = torch.zeros(length * self.stride)
        for span in spans:
            total[_pixels(span, self.stride)] += raw[span.start]
        return {span.start: raw[span.start] / total[_pixels(span, self.stride)] for span in spans}


def blend(tiles: Iterable[tuple[slice, slice, torch.Tensor]], tiling: Tiling, height: int, width: int) -> torch.Tensor:
    """Tiles (rows, columns, (n, h_px, w_px, 3)) of a latent of that size -> (n, height_px, width_px, 3)."""
    by_row, by_column, stride = tiling.weights(height), tiling.weights(width), tiling.stride
    whole = None
    for rows, columns, frames in tiles:
        if whole is None:
            whole = frames.new_zeros((frames.shape[0], height * stride, width * stride, frames.shape[-1]))
        weight = by_row[rows.start][:, None, None] * by_column[columns.start][None, :, None]  # (h_px, w_px, 1)
        whole[:, _pixels(rows, stride), _pixels(columns, stride)] += frames * weight.to(frames)
    if whole is None:
        raise ValueError("there are no tiles to blend")
    return whole


def _ramps(span: slice, length: int, stride: int, ramp: int) -> torch.Tensor:
    """Weights of one span before they are divided: ramps at the sides that have a neighbour."""
    count = (span.stop - span.start) * stride
    rising = (torch.arange(count, dtype=torch.float32) + 0.5) / ramp
    weights = torch.ones(count)
    if span.start > 0:
        weights = torch.minimum(weights, rising)
    if span.stop < length:
        weights = torch.minimum(weights, rising.flip(0))
    return weights


def _pixels(span: slice, stride: int) -> slice:
    return slice(span.start * stride, span.stop * stride)
