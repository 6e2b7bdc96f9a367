"""The measures of the quality benchmark against values worked out by hand and slow versions of the papers' formulas."""

import math

import numpy as np
import pytest

from wan_gguf.benchmarks.quality_metrics import gmsd, psnr_db, relative_error, ssim


@pytest.fixture
def videos():
    """Two videos that are alike: shapes with edges, and the same with noise."""
    rng = np.random.default_rng(0)
    clean = np.full((2, 16, 14, 3), 40, np.uint8)
    clean[:, 3:11, 4:10] = (200, 90, 30)
    noisy = np.clip(clean + rng.normal(0, 12, clean.shape), 0, 255).astype(np.uint8)
    return noisy, clean


def flat(value, shape=(1, 16, 16, 3)):
    return np.full(shape, value, np.uint8)


def test_psnr_of_a_constant_difference():
    """All values 10 apart: 10 log10(255^2 / 100)."""
    assert psnr_db(flat(110), flat(100)) == pytest.approx(28.1308, abs=1e-4)


def test_psnr_of_the_smallest_difference_is_that_of_equal_videos():
    a, b = flat(7), flat(7)
    equal = psnr_db(a, b)
    b[0, 0, 0, 0] = 8
    assert psnr_db(a, b) == equal == pytest.approx(10 * math.log10(255**2 * 768))
    b[0, 0, 0, 0] = 9
    assert psnr_db(a, b) == pytest.approx(equal - 10 * math.log10(4))


def test_psnr_does_not_wrap_around():
    assert psnr_db(flat(0), flat(255)) == 0 == psnr_db(flat(255), flat(0))


def ssim_of_the_paper(x, y):
    """Equations 13 to 17 for one channel, window by window."""
    at = np.arange(11) - 5
    window = np.exp(-(at[:, None] ** 2 + at[None, :] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            p, q = (z[i : i + 11, j : j + 11].astype(float) for z in (x, y))
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
            cov = (window * (p - mp) * (q - mq)).sum()
            found.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    return np.mean(found)


def test_ssim_is_the_paper_s(videos):
    a, b = videos
    slow = np.mean([ssim_of_the_paper(a[t, :, :, c], b[t, :, :, c]) for t in range(2) for c in range(3)])
    assert ssim(a, b) == pytest.approx(slow, abs=1e-9)
    assert 0.2 < slow < 0.9, "a pair that tells a wrong constant from a right one"


def test_ssim_of_flat_pictures_is_its_luminance_term():
    c1 = (0.01 * 255) ** 2
    assert ssim(flat(110), flat(100)) == pytest.approx((2 * 110 * 100 + c1) / (110**2 + 100**2 + c1))
    assert ssim(flat(0), flat(255)) == pytest.approx(c1 / (255**2 + c1))


def test_ssim_sees_a_wrong_colour_of_the_same_luma():
    """Blue up by 200 and green down by 38.84 leave the luma alone; the luma's SSIM would be 1."""
    a, b = flat(100), flat(100)
    b[..., 1], b[..., 2] = 61, 255
    assert ssim(a, b) < 0.95


def gmsd_of_the_paper(x, y):
    """Equations 2 to 5 for one frame, position by position."""
    prewitt = np.array([[1, 0, -1]] * 3) / 3
    halves = []
    for frame in (x, y):
        luma = (0.299 * frame[..., 0] + 0.587 * frame[..., 1] + 0.114 * frame[..., 2]).astype(float)
        quarters = [luma[i::2, j::2] for i in (0, 1) for j in (0, 1)]
        halves.append(np.mean(quarters, axis=0))
    found = []
    first, second = halves
    for i in range(first.shape[0] - 2):
        for j in range(first.shape[1] - 2):
            m = [
                math.hypot((prewitt * z[i : i + 3, j : j + 3]).sum(), (prewitt.T * z[i : i + 3, j : j + 3]).sum())
                for z in (first, second)
            ]
            found.append((2 * m[0] * m[1] + 170) / (m[0] ** 2 + m[1] ** 2 + 170))
    return math.sqrt(np.mean((np.array(found) - np.mean(found)) ** 2))


def test_gmsd_is_the_paper_s(videos):
    a, b = videos
    slow = np.mean([gmsd_of_the_paper(x, y) for x, y in zip(a, b, strict=True)])
    assert gmsd(a, b) == pytest.approx(slow, abs=1e-9)
    assert slow > 0.02, "a pair that tells a wrong constant from a right one"


def test_gmsd_does_not_see_brightness_but_a_moved_edge():
    assert gmsd(flat(110), flat(100)) == 0
    a, b = flat(30), flat(30)
    a[:, :, 6:], b[:, :, 10:] = 220, 220
    assert gmsd(a, b) > 0.2


def test_equal_videos(videos):
    clean = videos[1]
    assert (ssim(clean, clean), gmsd(clean, clean), relative_error(clean, clean)) == (pytest.approx(1), 0, 0)


def test_relative_error_is_relative_to_the_second():
    a, b = np.array([[3.0, 0.0]], np.float32), np.array([[0.0, 4.0]], np.float32)
    assert relative_error(a, b) == pytest.approx(5 / 4)


@pytest.mark.parametrize("measure", [psnr_db, ssim, gmsd])
@pytest.mark.parametrize(
    "other", [flat(1)[:, :15], flat(1)[0], flat(1).astype(np.float32)], ids=["shape", "one frame", "floats"]
)
def test_frames_that_cannot_be_compared_are_refused(measure, other):
    with pytest.raises(ValueError, match=r"two uint8 arrays \(T, H, W, 3\) are needed"):
        measure(other, flat(1))
