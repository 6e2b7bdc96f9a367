"""A video latent decoded piece by piece with the host's VAE: memory does not grow with the number of frames.

Wan's decoders are causal in time: a piece of the latent needs, of all pieces before it, only the feature cache that the
decoder keeps. The host decodes the same pieces, but collects them on the device; here each is handed on, so without
tiles the frames are equal to the host's `vae.decode`, bit for bit; on a CPU to that on two threads, see steady_vae.py.

    Wan 2.1   latent frames 1, then 2, 2, ...    1, then 8, 8, ... frames
    Wan 2.2   latent frames 1, 1, 1, ...         1, then 4, 4, ... frames, as 2x2 patches

With tiles each tile has a cache of its own and time runs outermost, so memory stays constant in the number of frames.
Source: WanVAE.decode in the host's comfy/ldm/wan/vae.py and vae2_2.py (host 0.30.0).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import comfy.ldm.wan.vae
import comfy.ldm.wan.vae2_2
import comfy.model_management
import torch

from .steady_vae import steady_vae
from .vae import check_vae_matches
from .video_memory import piece_bytes
from .video_tiles import Tiling, blend

COLOURS = 3


@dataclass(frozen=True)
class Stepping:
    """How a decoder goes through time: latent frames of each piece after the first, which is one."""

    network: torch.nn.Module
    latent_frames: int

    def pieces(self, frames: int) -> list[slice]:
        """Where a latent of that many frames is cut."""
        starts = range(1, frames, self.latent_frames)
        return [slice(0, 1), *(slice(start, min(start + self.latent_frames, frames)) for start in starts)]

    def new_cache(self, frames: int) -> list | None:
        """An empty feature cache; None where the host decodes without one."""
        if isinstance(self.network, comfy.ldm.wan.vae2_2.WanVAE):
            return [None] * comfy.ldm.wan.vae2_2.count_conv3d(self.network.decoder)
        return [None] * comfy.ldm.wan.vae.count_cache_layers(self.network.decoder) if frames > 1 else None

    def decode(self, z: torch.Tensor, cache: list | None, is_first: bool) -> torch.Tensor:
        """(1, C, t, H, W) behind `conv2` -> (1, 3, n, height_px, width_px), raw; changes the cache."""
        if isinstance(self.network, comfy.ldm.wan.vae2_2.WanVAE):
            patches = self.network.decoder(z, feat_cache=cache, feat_idx=[0], first_chunk=is_first)
            return comfy.ldm.wan.vae2_2.unpatchify(patches, patch_size=2)
        return torch.cat(self.network.decoder(z, feat_cache=cache, feat_idx=[0]), 2)


@dataclass
class _Tile:
    """A tile's place in the latent, and what its decoder remembers."""

    rows: slice
    columns: slice
    cache: list | None = field(repr=False)

    def move_cache(self, device: torch.device) -> None:
        """The caches of the tiles that do not compute wait in main memory."""
        if self.cache is not None:
            self.cache[:] = [kept.to(device) if isinstance(kept, torch.Tensor) else kept for kept in self.cache]


def check_streamable(vae: Any, latent: dict) -> None:
    """Raise ValueError unless latent and VAE belong together and the VAE is one that can be decoded in pieces."""
    check_vae_matches(vae, latent)
    stepping(vae)
    if not latent["samples"].numel():
        raise ValueError(f"latent: got shape {tuple(latent['samples'].shape)}, which is empty; nothing to decode")


def stepping(vae: Any) -> Stepping:
    """How that VAE is stepped through time. Raises ValueError for a VAE that is not Wan's own."""
    network = vae.first_stage_model
    if isinstance(network, comfy.ldm.wan.vae2_2.WanVAE):
        return Stepping(network, 1)
    if isinstance(network, comfy.ldm.wan.vae.WanVAE) and network.decoder.head[-1].out_channels == COLOURS:
        return Stepping(network, 2)
    raise ValueError(
        f"vae: the VAE connected is a {type(network).__name__} that cannot be decoded frame by frame; the Wan 2.1 and "
        "Wan 2.2 VAEs can; for this one use 'VAE Decode', 'Create Video' and 'Save Video'"
    )


def stream_frames(vae: Any, samples: torch.Tensor, tiling: Tiling | None = None) -> Iterator[torch.Tensor]:
    """(1, C, T, H, W) -> pieces (n, height_px, width_px, 3) in 0 to 1, in order, on the host's output device.

    To be used under inference mode. Stops with the host's exception when the user interrupts.
    """
    management, step = comfy.model_management, stepping(vae)
    frames, height, width = samples.shape[2:]
    need = piece_bytes(vae, frames, height, width, tiling)
    places = [(slice(0, height), slice(0, width))] if tiling is None else tiling.places(height, width)
    tiles = [_Tile(rows, columns, step.new_cache(frames)) for rows, columns in places]
    with management.cuda_device_context(vae.device):
        management.load_models_gpu([vae.patcher], memory_required=need, force_full_load=vae.disable_offload)
        # all at once, as the host does: it is small, and cut in pieces it may be computed in another order
        with steady_vae(step.network):
            z = step.network.conv2(samples.to(device=vae.device, dtype=vae.vae_dtype))
    for number, times in enumerate(step.pieces(frames)):
        management.throw_exception_if_processing_interrupted()
        with management.cuda_device_context(vae.device), steady_vae(step.network):
            if tiling is None:
                piece = _to_frames(vae, step.decode(z[:, :, times], tiles[0].cache, number == 0))
            else:
                piece = _tiled(vae, step, z[:, :, times], tiles, tiling, number == 0)
        yield piece


def _to_frames(vae: Any, raw: torch.Tensor) -> torch.Tensor:
    """(1, 3, n, H, W) of the network -> (n, H, W, 3), in the steps and dtypes of the host's `vae.decode`."""
    out = raw.to(device=vae.output_device, dtype=vae.vae_output_dtype(), copy=True)
    _check_finite(vae, out)
    return vae.process_output(out)[0].movedim(0, -1)


def _check_finite(vae: Any, out: torch.Tensor) -> None:
    """Raise ValueError for values that would become black, white or arbitrary pixels without a word."""
    if not torch.isfinite(torch.stack(out.aminmax())).all():
        dtype = str(vae.vae_dtype).removeprefix("torch.")
        raise ValueError(
            f"vae: NaN or infinite values came out of it, computed in {dtype}; Wan's VAEs go beyond the range of "
            "float16: start ComfyUI with --fp32-vae or --bf16-vae; if it is not that, the VAE's file is damaged"
        )


def _tiled(
    vae: Any, step: Stepping, z: torch.Tensor, tiles: list[_Tile], tiling: Tiling, is_first: bool
) -> torch.Tensor:
    """One piece from its tiles, each decoded on from what it was in the piece before."""
    decoded = []
    for tile in tiles:
        tile.move_cache(vae.device)
        raw = step.decode(z[..., tile.rows, tile.columns], tile.cache, is_first)
        decoded.append((tile.rows, tile.columns, _to_frames(vae, raw)))
        tile.move_cache(torch.device("cpu"))
    return blend(decoded, tiling, z.shape[-2], z.shape[-1])
