"""How far one video is from another: (T, H, W, 3) uint8 frames, as a video file would hold them -> one number.

PSNR   10 log10(255^2 / mean square difference), over all values of the video.
SSIM   Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment: From Error Visibility to Structural Similarity",
       IEEE TIP 13 (4), 2004: Gaussian window of 11x11 and standard deviation 1.5, K1 0.01, K2 0.03, range 255, windows
       that lie inside the picture. Of each colour channel, not of the luma alone: a wrong colour has to count. Mean
       over positions, channels and frames.
GMSD   Xue, Zhang, Mou, Bovik, "Gradient Magnitude Similarity Deviation", IEEE TIP 23 (2), 2014: luma, halved by means
       of 2x2, Prewitt gradients over 3, constant 170; the standard deviation of the similarity over the positions
       whose 3x3 neighbourhood lies inside the picture. Mean over frames. 0 is equal.
"""

import math

import numpy as np

PEAK = 255.0
SSIM_WINDOW, SSIM_SIGMA, SSIM_K1, SSIM_K2 = 11, 1.5, 0.01, 0.03
GMSD_CONSTANT = 170.0
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, which both papers use


def psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    """Equal videos get the value of a single difference of 1 in the whole video, the largest there can be otherwise."""
    _check(a, b)
    squares = float(np.square(a.astype(np.int32) - b.astype(np.int32)).sum(dtype=np.int64))
    return 10 * math.log10(PEAK**2 * a.size / max(squares, 1.0))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """1 for equal videos."""
    _check(a, b)
    x, y = a.astype(np.float64), b.astype(np.float64)
    c1, c2 = (SSIM_K1 * PEAK) ** 2, (SSIM_K2 * PEAK) ** 2
    mean_x, mean_y = _windowed(x), _windowed(y)
    var_x, var_y = _windowed(x * x) - mean_x**2, _windowed(y * y) - mean_y**2
    cov = _windowed(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * cov + c2) / (var_x + var_y + c2)
    return float((luminance * structure).mean())


def gmsd(a: np.ndarray, b: np.ndarray) -> float:
    """0 for equal videos; about 0.3 for unlike ones."""
    _check(a, b)
    x, y = _gradient_magnitude(_half_luma(a)), _gradient_magnitude(_half_luma(b))
    similarity = (2 * x * y + GMSD_CONSTANT) / (x**2 + y**2 + GMSD_CONSTANT)
    return float(similarity.std(axis=(1, 2)).mean())


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    """Of a against b: the length of their difference over the length of b."""
    difference = a.astype(np.float64) - b.astype(np.float64)
    return float(np.linalg.norm(difference) / np.linalg.norm(b.astype(np.float64)))


def _check(a: np.ndarray, b: np.ndarray) -> None:
    for frames in (a, b):
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape != a.shape:
            raise ValueError(
                f"frames: got {a.dtype} {a.shape} and {b.dtype} {b.shape}; two uint8 arrays (T, H, W, 3) are needed"
            )


def _windowed(x: np.ndarray) -> np.ndarray:
    """Gaussian means of (T, H, W, C) -> (T, H - 10, W - 10, C)."""
    at = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    weights = np.exp(-(at**2) / (2 * SSIM_SIGMA**2))
    weights /= weights.sum()
    height, width = (side - SSIM_WINDOW + 1 for side in x.shape[1:3])
    rows = sum(w * x[:, i : i + height] for i, w in enumerate(weights))
    return sum(w * rows[:, :, i : i + width] for i, w in enumerate(weights))


def _half_luma(frames: np.ndarray) -> np.ndarray:
    """(T, H, W, 3) -> (T, H / 2, W / 2)."""
    luma = frames.astype(np.float64) @ np.array(LUMA)
    return (luma[:, ::2, ::2] + luma[:, 1::2, ::2] + luma[:, ::2, 1::2] + luma[:, 1::2, 1::2]) / 4


def _gradient_magnitude(x: np.ndarray) -> np.ndarray:
    """(T, H, W) -> (T, H - 2, W - 2)."""
    down = (x[:, :-2] + x[:, 1:-1] + x[:, 2:]) / 3  # (T, H - 2, W)
    across = (x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]) / 3  # (T, H, W - 2)
    return np.hypot(down[:, :, 2:] - down[:, :, :-2], across[:, 2:] - across[:, :-2])
