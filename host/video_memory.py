"""How a frame is tiled so that a piece of the video fits the memory there is, and what is tried when it does not.

`auto` takes whole frames if they fit by the estimate, else the largest tiles that do; after an out-of-memory error the
next smaller ones. Tiles change pixels (video_tiles.py), so what was taken is recorded, and `off` or a size fixes it.
"""

from dataclasses import dataclass
from typing import Any

import comfy.model_management

from .video_tiles import Tiling

AUTO, OFF = "auto", "off"
TILE_SIZES_PX = (1024, 768, 512, 384, 256)
TILINGS = (AUTO, OFF, *(str(size) for size in TILE_SIZES_PX))
_GIB = 1 << 30
# Shares of the host's estimate, which is 7000 (Wan 2.1) or 8000 (2.2) values per pixel and more than it takes: caches
# of 2364 and 1784 values (counted and measured), about 2000 and 3000 for the largest layer with its copies (counted).
# Measured on a CPU at 64 x 64 px, weights in oneDNN's order included: 4739 values for Wan 2.1.
_CACHES, _LAYER = 0.35, 0.40


@dataclass(frozen=True)
class Choice:
    """One way to decode: `tiling` None means whole frames; `reason` why not those, for people."""

    tiling: Tiling | None
    reason: str = ""

    def record(self) -> str | dict[str, int]:
        """What decides the pixels: "off", or the tiles' size and overlap in pixels."""
        if self.tiling is None:
            return OFF
        stride = self.tiling.stride
        return {"tile_px": self.tiling.tile * stride, "overlap_px": self.tiling.overlap * stride}

    def __str__(self) -> str:
        if self.tiling is None:
            return "whole frames, equal to the host's full decode"
        sizes = "{tile_px} px, {overlap_px} px overlap".format_map(self.record())
        return f"tiles of {sizes}, not bit-equal to whole frames" + (f" ({self.reason})" if self.reason else "")


def choices(vae: Any, requested: str, frames: int, height: int, width: int) -> list[Choice]:
    """What to try, in order, for a latent of that size: for `auto` down to the smallest tiles, else one thing only."""
    if requested == OFF:
        return [Choice(None)]
    stride = int(vae.spacial_compression_decode())
    if requested != AUTO:
        return [Choice(_unless_whole(Tiling.of_pixels(int(requested), stride), height, width))]
    tilings = [Tiling.of_pixels(size, stride) for size in TILE_SIZES_PX]
    smaller = [tiling for tiling in tilings if not tiling.covers(height, width)]
    whole = piece_bytes(vae, frames, height, width)
    free = _free_bytes(vae, whole)
    if whole <= free:
        return [Choice(None), *(Choice(tiling, "out of memory before") for tiling in smaller)]
    reason = f"a whole frame is estimated at {whole / _GIB:.1f} GiB, {free / _GIB:.1f} GiB are free"
    fitting = [tiling for tiling in smaller if piece_bytes(vae, frames, height, width, tiling) <= free]
    return [Choice(tiling, reason) for tiling in fitting or smaller[-1:]] or [Choice(None)]


def piece_bytes(vae: Any, frames: int, height: int, width: int, tiling: Tiling | None = None) -> int:
    """What decoding one piece needs on the VAE's device beside the weights, for a latent of that size."""
    if tiling is None:
        return int((_CACHES + _LAYER) * _host_bytes(vae, frames, height, width))
    tile = _host_bytes(vae, frames, min(tiling.tile, height), min(tiling.tile, width))
    caches = 1 if vae.device.type != "cpu" else len(tiling.places(height, width))  # elsewhere they wait in main memory
    return int((caches * _CACHES + _LAYER) * tile)


def check_tiling(requested: str) -> None:
    """Raise ValueError for a value that is not one of the choices."""
    if requested not in TILINGS:
        raise ValueError(f"tiling: '{requested}' is unknown; allowed: {', '.join(TILINGS)}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device or the machine had no memory left; torch has no class of its own for the CPU."""
    if isinstance(error, MemoryError) or comfy.model_management.is_oom(error):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def _host_bytes(vae: Any, frames: int, height: int, width: int) -> int:
    """The host's estimate for a decode of that size. From two latent frames on it is that of a long video.

    The host's own grows with the fifth only, to 7000 values per pixel; 3793 were measured with three (Wan 2.1).
    """
    counted = 1 if frames == 1 else 5
    return int(vae.memory_used_decode((1, vae.latent_channels, counted, height, width), vae.vae_dtype))


def _unless_whole(tiling: Tiling, height: int, width: int) -> Tiling | None:
    return None if tiling.covers(height, width) else tiling


def _free_bytes(vae: Any, need: int) -> int:
    """What is free on the VAE's device once the host has made all the room it can."""
    management = comfy.model_management
    management.load_models_gpu([vae.patcher], memory_required=need, force_full_load=vae.disable_offload)
    return int(vae.patcher.get_free_memory(vae.device))
