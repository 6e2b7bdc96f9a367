"""The image that a video starts with: IMAGE of the host -> one frame of the video's size, as the official code fits it.

    cover    scaled with Lanczos in 8 bits until it covers the frame, then cropped at the centre    TI2V-5B
    stretch  both sides scaled by bicubic interpolation without a filter against aliasing              I2V-A14B

The second is meant for a size chosen after the image, where the two factors are nearly equal. An alpha channel is
dropped, not blended: the official code reads every image with PIL's convert("RGB").
Source: Wan2.2 wan/textimage2video.py and wan/image2video.py.
"""

import numpy as np
import torch
from PIL import Image

MAX_CROP = (
    16  # a frame that shows less than one part in 16 of the image is a mistake, and large in memory before the crop
)


def check_start_image(image: torch.Tensor) -> torch.Tensor:
    """IMAGE (1, H, W, 3 or 4), 0 to 1 -> (1, H, W, 3) float32. Raises ValueError for anything else."""
    if image.ndim != 4 or image.shape[-1] not in (3, 4) or not image.numel():
        raise ValueError(
            f"start image: got shape {tuple(image.shape)}; an image (1, height, width, 3) is needed; "
            "connect 'Load Image'"
        )
    if image.shape[0] != 1:
        raise ValueError(
            f"start image: got {image.shape[0]} images; one is needed; choose it with 'Get Image from Batch'"
        )
    image = image[..., :3].float()
    if not torch.isfinite(image).all():
        raise ValueError("start image: has NaN or infinite values; numbers from 0 to 1 are needed; check its source")
    return image


def cover(image: torch.Tensor, width_px: int, height_px: int) -> torch.Tensor:
    """(1, H, W, 3) -> (1, height_px, width_px, 3): Lanczos until the frame is covered, then the centre."""
    image_height, image_width = image.shape[1:3]
    scale = max(width_px / image_width, height_px / image_height)
    scaled_width, scaled_height = round(image_width * scale), round(image_height * scale)
    if scaled_width * scaled_height > MAX_CROP * width_px * height_px:
        raise ValueError(
            f"start image: is {image_width} x {image_height} px; less than 1/{MAX_CROP} of it fits a video of "
            f"{width_px} x {height_px} px; crop the image first"
        )
    pixels = (image[0].clamp(0, 1) * 255).round().to("cpu", torch.uint8).numpy()
    scaled = Image.fromarray(pixels).resize((scaled_width, scaled_height), Image.Resampling.LANCZOS)
    left, top = (scaled_width - width_px) // 2, (scaled_height - height_px) // 2
    frame = np.asarray(scaled.crop((left, top, left + width_px, top + height_px)))
    return torch.from_numpy(frame.astype(np.float32) / 255)[None]


def stretch(image: torch.Tensor, width_px: int, height_px: int) -> torch.Tensor:
    """(1, H, W, 3) -> (1, height_px, width_px, 3): bicubic; values may pass 0 and 1 at sharp edges, as officially."""
    size = (height_px, width_px)
    return torch.nn.functional.interpolate(image.cpu().movedim(-1, 1), size=size, mode="bicubic").movedim(1, -1)
