"""Where tiles lie, and that blending keeps what tiles agree on."""

import itertools

import pytest
import torch

from wan_gguf.host.video_tiles import Tiling, blend

SIZES = [(4, 4), (5, 4), (9, 4), (16, 8), (17, 8), (23, 8), (90, 32), (160, 64), (3, 2)]


@pytest.mark.parametrize(("length", "tile"), SIZES)
def test_tiles_cover_everything_and_overlap_by_a_quarter(length, tile):
    tiling = Tiling(tile, 8)
    spans = [columns for _, columns in tiling.places(1, length)]
    assert spans[0].start == 0 and spans[-1].stop == length
    assert all(span.stop - span.start == min(tile, length) for span in spans)
    shared = [before.stop - after.start for before, after in itertools.pairwise(spans)]
    assert all(count >= max(tile // 4, 1) for count in shared)
    assert (len(spans) == 1) == (length <= tile)


@pytest.mark.parametrize(("length", "tile"), SIZES)
def test_weights_add_up_to_one_and_are_one_where_a_tile_is_alone(length, tile):
    tiling = Tiling(tile, 8)
    total, count = torch.zeros(length * 8), torch.zeros(length * 8)
    for start, weights in tiling.weights(length).items():
        inside = slice(start * 8, start * 8 + len(weights))
        assert weights.min() > 0
        total[inside] += weights
        count[inside] += 1
    # two or three float32 quotients of numbers up to 1: at most one unit in the last place each
    assert (total - 1).abs().max() <= 3 * torch.finfo(torch.float32).eps
    assert torch.equal(total[count == 1], torch.ones(int((count == 1).sum())))


def test_tiles_that_agree_give_the_frame_they_were_cut_from():
    frame, tiling = torch.rand(2, 88, 168, 3, generator=torch.Generator().manual_seed(0)), Tiling(4, 8)
    places = tiling.places(11, 21)
    assert len(places) > 6
    cut = [
        (rows, columns, frame[:, rows.start * 8 : rows.stop * 8, columns.start * 8 : columns.stop * 8])
        for rows, columns in places
    ]
    found = blend(cut, tiling, 11, 21)
    # four products and sums per pixel, values up to 1
    assert (found - frame).abs().max() <= 8 * torch.finfo(torch.float32).eps


def test_where_tiles_differ_one_fades_into_the_other():
    tiling = Tiling(8, 1)
    black, white = torch.zeros(1, 8, 8, 3), torch.ones(1, 8, 8, 3)
    row = blend([(slice(0, 8), slice(0, 8), black), (slice(0, 8), slice(6, 14), white)], tiling, 8, 14)[0, 0, :, 0]
    assert torch.equal(row[:6], torch.zeros(6)) and torch.equal(row[8:], torch.ones(6))
    assert torch.allclose(row[6:8], torch.tensor([0.25, 0.75]))


def test_a_size_in_pixels():
    assert Tiling.of_pixels(512, 8) == Tiling(64, 8) and Tiling.of_pixels(512, 16) == Tiling(32, 16)
    assert Tiling.of_pixels(512, 8).covers(64, 64) and not Tiling.of_pixels(512, 8).covers(65, 1)
