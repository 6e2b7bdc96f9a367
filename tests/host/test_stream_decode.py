"""Streamed decode gives the host's frames bit for bit, holds one piece at a time, and stops when asked."""

import weakref

import comfy.ldm.wan.vae
import comfy.model_management
import comfy.sd
import pytest
import torch

from wan_gguf.host.stream_decode import check_streamable, stepping, stream_frames
from wan_gguf.host.video_tiles import Tiling
from wan_gguf.tests.host.video_vaes import STRIDES, make_latent, make_vae

pytestmark = pytest.mark.usefixtures("two_threads")


@pytest.fixture(scope="module", params=["2.1", "2.2"])
def version(request):
    return request.param


@pytest.fixture(scope="module")
def vae(version):
    with pytest.MonkeyPatch.context() as patch:
        return make_vae(version, patch)


def whole(vae, latent):
    """The host's own decode."""
    return vae.decode(latent["samples"])[0]


def streamed(vae, latent, tiling=None):
    return torch.cat(list(stream_frames(vae, latent["samples"], tiling)))


@pytest.mark.parametrize("frames", [1, 2, 4, 5])
def test_the_frames_are_the_hosts_bit_for_bit(vae, version, frames):
    latent = make_latent(version, frames)
    found, expected = streamed(vae, latent), whole(vae, latent)
    assert found.shape == expected.shape == (4 * frames - 3, 4 * STRIDES[version], 4 * STRIDES[version], 3)
    assert expected.std() > 0.1  # not a constant picture, which anything would equal
    assert torch.equal(found, expected)


def test_frames_that_are_not_square(vae, version):
    latent = make_latent(version, 2, height=2, width=6)
    assert torch.equal(streamed(vae, latent), whole(vae, latent))


def test_pieces_come_one_by_one_and_nothing_holds_them(vae, version):
    sizes, alive = [], []
    for piece in stream_frames(vae, make_latent(version, 4, height=2, width=2)["samples"]):
        sizes.append(len(piece))
        alive.append(weakref.ref(piece.untyped_storage()))
        del piece
        assert sum(ref() is not None for ref in alive) <= 1
    assert sizes == {"2.1": [1, 8, 4], "2.2": [1, 4, 4, 4]}[version]


def test_two_videos_in_turn_do_not_disturb_each_other(vae, version):
    """The caches belong to the run, not to the VAE."""
    latents = [make_latent(version, 4, height=2, width=2, seed=seed) for seed in (1, 2)]
    runs = [stream_frames(vae, latent["samples"]) for latent in latents]
    pieces = list(zip(*runs, strict=True))
    for latent, run in zip(latents, zip(*pieces, strict=True), strict=True):
        assert torch.equal(torch.cat(run), whole(vae, latent))


def test_an_interrupt_ends_it_at_the_next_piece(vae, version):
    run = stream_frames(vae, make_latent(version, 5, height=2, width=2)["samples"])
    next(run)
    comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        next(run)


def test_one_tile_over_the_whole_frame_changes_nothing(vae, version):
    latent = make_latent(version, 4, height=2, width=2)
    assert torch.equal(streamed(vae, latent, Tiling(2, STRIDES[version])), whole(vae, latent))


def test_every_tile_goes_on_from_its_own_past(vae, version):
    """A video in tiles has the frames of each tile decoded as a video of its own, blended."""
    stride = STRIDES[version]
    latent, tiling = make_latent(version, 3, height=2, width=3), Tiling(2, stride)
    found = streamed(vae, latent, tiling)
    for columns, own in ((slice(0, 2), slice(0, 1)), (slice(1, 3), slice(1, 2))):  # own: latent pixels of it alone
        alone = whole(vae, {"samples": latent["samples"][..., columns]})
        inside = slice((columns.start + own.start) * stride, (columns.start + own.stop) * stride)
        assert torch.equal(found[:, :, inside], alone[:, :, own.start * stride : own.stop * stride])


def test_caches_wait_in_main_memory(vae, version, monkeypatch):
    """On a device only the tile that computes has its cache there."""
    from wan_gguf.host import stream_decode

    moves = []
    original = stream_decode._Tile.move_cache
    monkeypatch.setattr(
        stream_decode._Tile, "move_cache", lambda tile, device: (moves.append(device.type), original(tile, device))[1]
    )
    streamed(vae, make_latent(version, 2, height=2, width=3), Tiling(2, STRIDES[version]))
    assert moves == ["cpu"] * len(moves) and len(moves) == 2 * 2 * len(stepping(vae).pieces(2))


def test_a_vae_that_is_not_wans_own_is_refused():
    class OtherVAE:
        latent_channels, latent_dim = 16, 3
        first_stage_model = torch.nn.Identity()

        def temporal_compression_decode(self):
            return 4

    with pytest.raises(ValueError, match=r"vae: the VAE connected is a Identity that cannot .* use 'VAE Decode'"):
        check_streamable(OtherVAE(), make_latent("2.1", 2))


def test_a_vae_with_other_outputs_than_colours_is_refused():
    network = comfy.ldm.wan.vae.WanVAE(dim=8, z_dim=16, temperal_downsample=[False, True, True], conv_out_channels=12)
    with pytest.raises(ValueError, match="cannot be decoded frame by frame"):
        stepping(comfy.sd.VAE(sd=network.state_dict()))


def test_an_empty_latent_is_refused(vae, version):
    with pytest.raises(ValueError, match=r"latent: got shape \(0, .*which is empty"):
        check_streamable(vae, make_latent(version, 2, batch=0))
