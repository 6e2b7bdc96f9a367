"""Sizes that follow an image: the official rules worked out by hand, and what no size fits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_gguf.sampling.image_size import size_like_image

AREA_480P, AREA_720P, AREA_5B = 832 * 480, 1280 * 720, 1280 * 704


@pytest.mark.parametrize(
    ("image", "area", "expected"),
    [
        # sqrt(399360 * 1080 / 1920) = 473.96 -> 464, sqrt(399360 * 1920 / 1080) = 842.59 -> 832
        ((1920, 1080), AREA_480P, (832, 464)),
        ((1080, 1920), AREA_480P, (464, 832)),
        # sqrt(399360) = 631.95 -> 624
        ((1000, 1000), AREA_480P, (624, 624)),
        # sqrt(921600 * 3 / 4) = 831.38 -> 816, sqrt(921600 * 4 / 3) = 1108.5 -> 1104
        ((4000, 3000), AREA_720P, (1104, 816)),
        ((1280, 720), AREA_720P, (1280, 720)),
    ],
)
def test_a14b_floors_each_side(image, area, expected):
    assert size_like_image(*image, area, 8) == expected


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ((1280, 704), (1280, 704)),
        # ratio 1.7778. Width first: sqrt(901120 * 1.7778) = 1265.7 -> 1248, 901120 / 1248 = 722.1 -> 704: ratio 1.7727.
        # Height first: 901120 / 1265.7 = 711.9 -> 704, 901120 / 704 = 1280: ratio 1.8182. The first is nearer.
        ((1920, 1080), (1248, 704)),
        # ratio 0.5625. Width first: 711.9 -> 704, 901120 / 704 = 1280: 0.5500. Height first: 1265.7 -> 1248,
        # 722.1 -> 704: 0.5641. The second is nearer.
        ((1080, 1920), (704, 1248)),
        # ratio 1.3333. Width first: 1096.1 -> 1088, 828.2 -> 800: 1.36. Other way: 822.1 -> 800, 1126.4 -> 1120: 1.4.
        ((4000, 3000), (1088, 800)),
        # a draw, 928 x 960 or 960 x 928: the height is floored first
        ((1000, 1000), (960, 928)),
    ],
)
def test_ti2v_5b_takes_the_nearer_ratio(image, expected):
    assert size_like_image(*image, AREA_5B, 16) == expected


@given(
    st.integers(100, 8000), st.integers(100, 8000), st.integers(64 * 64, 1920 * 1088), st.sampled_from([8, 16])
)  # fmt: skip
def test_sizes_fit_the_patches_and_the_area(width, height, area, stride):
    try:
        found = size_like_image(width, height, area, stride)
    except ValueError:
        assert min(width / height, height / width) ** 0.5 * area**0.5 < 4 * stride
        return
    assert all(side >= 2 * stride and side % (2 * stride) == 0 for side in found)
    assert found[0] * found[1] <= area


def test_an_image_too_narrow_for_the_area():
    with pytest.raises(ValueError, match=r"an image of 5000 x 3 px is too narrow .* multiples of 16 px; make width"):
        size_like_image(5000, 3, AREA_480P)
    with pytest.raises(ValueError, match=r"an image of 4 x 5000 px is too narrow .* multiples of 32 px"):
        size_like_image(4, 5000, AREA_480P, 16)


@pytest.mark.parametrize("arguments", [(0, 10, 100), (10, 0, 100), (10, 10, 0)])
def test_nothing_is_not_a_size(arguments):
    with pytest.raises(ValueError, match="must be 1 px or more"):
        size_like_image(*arguments)


def test_only_the_strides_of_the_two_vaes():
    with pytest.raises(ValueError, match="spatial stride must be 8"):
        size_like_image(100, 100, AREA_480P, 4)
