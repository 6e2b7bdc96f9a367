"""The size of a video that follows an image: about a given area, the image's aspect ratio, sides that fit the patches.

The official code has a rule for each VAE, both kept here to the pixel:

    stride 8   each side is floored by itself: sqrt(area * ratio) and sqrt(area / ratio)      wan/image2video.py
    stride 16  one side is floored, the other fills the area; of the two ways to begin the one nearer to the image's
               ratio wins, beginning with the height in a draw                 best_output_size in wan/utils/utils.py

Source: Wan2.2, the files named.
"""

import math

from .latent import size_multiple


def size_like_image(
    image_width_px: int, image_height_px: int, area_px: int, spatial_stride: int = 8
) -> tuple[int, int]:
    """Image size and wanted area -> (width_px, height_px) of the video. Raises ValueError when no size fits."""
    if min(image_width_px, image_height_px, area_px) < 1:
        raise ValueError(
            f"image size and area must be 1 px or more, got {image_width_px} x {image_height_px} and {area_px}"
        )
    multiple = size_multiple(spatial_stride)
    rule = _floored if spatial_stride == 8 else _nearest_ratio
    size = rule(image_width_px, image_height_px, area_px, multiple)
    if size is None:
        raise ValueError(
            f"an image of {image_width_px} x {image_height_px} px is too narrow for a video of {area_px} px in area "
            f"with sides that are multiples of {multiple} px; make width and height larger or crop the image"
        )
    return size


def _floored(image_width_px: int, image_height_px: int, area_px: int, multiple: int) -> tuple[int, int] | None:
    ratio = image_height_px / image_width_px  # in this order, as the official rule: the last bit can decide
    height = _floor(math.sqrt(area_px * ratio), multiple)
    width = _floor(math.sqrt(area_px / ratio), multiple)
    return (width, height) if width and height else None


def _nearest_ratio(image_width_px: int, image_height_px: int, area_px: int, multiple: int) -> tuple[int, int] | None:
    ratio = image_width_px / image_height_px
    exact_width = (area_px * ratio) ** 0.5
    width_first = _filled(exact_width, area_px, multiple)
    height_first = _filled(area_px / exact_width, area_px, multiple)[::-1]
    sizes = [size for size in (height_first, width_first) if all(size)]
    return min(sizes, key=lambda size: _distance(ratio, size), default=None)


def _filled(side_px: float, area_px: int, multiple: int) -> tuple[int, int]:
    """(the side floored, the other side of that area floored); zeros where nothing fits."""
    side = _floor(side_px, multiple)
    return side, _floor(area_px / side, multiple) if side else 0


def _floor(side_px: float, multiple: int) -> int:
    return int(side_px // multiple) * multiple


def _distance(ratio: float, size: tuple[int, int]) -> float:
    """The factor, 1 or more, between two aspect ratios."""
    found = size[0] / size[1]
    return max(ratio / found, found / ratio)
