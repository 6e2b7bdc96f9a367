"""A VAE whose bits do not depend on the number of threads, on a CPU, and are those of the host's on two."""

import comfy.sd
import comfy.utils
import pytest
import torch

from wan_gguf.host.paths import REFERENCE_FOLDER
from wan_gguf.host.steady_vae import FEW, FEW_POSITIONS, steady_vae
from wan_gguf.host.vae import decode_latent, encode_frames
from wan_gguf.tests.host.video_vaes import make_latent, make_vae

THREADS = (1, 2, 3, 7, 16)
SIZES = [(2, 6, 6), (3, 5, 7), (1, 8, 8), (1, 40, 26)]  # latent frames, height, width


@pytest.fixture(scope="module", params=["reference", "2.1", "2.2"])
def vae(request):
    """The trained one, and narrow ones with random weights."""
    if request.param == "reference":
        return comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(REFERENCE_FOLDER / "wan_reference_vae.safetensors")))
    with pytest.MonkeyPatch.context() as patch:
        return make_vae(request.param, patch)


@pytest.fixture
def threads():
    """Sets torch's number of threads until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def latent_of(vae, size):
    return make_latent({16: "2.1", 48: "2.2"}[vae.latent_channels], *size)


@pytest.mark.parametrize("size", SIZES)
def test_frames_are_those_of_the_host_on_two_threads(vae, size, threads):
    latent = latent_of(vae, size)
    threads(2)
    expected = vae.decode(latent["samples"])[0]
    assert expected.std() > 1e-3
    for number in THREADS:
        threads(number)
        assert torch.equal(decode_latent(vae, latent), expected), number
        assert torch.get_num_threads() == number


def test_latents_of_images_too(vae, threads):
    side = 6 * vae.spacial_compression_decode()
    frames = torch.rand(5, side, side, 3, generator=torch.Generator().manual_seed(0))
    threads(2)
    expected = vae.encode(frames)
    for number in THREADS:
        threads(number)
        assert torch.equal(encode_frames(vae, frames), expected), number


def test_without_it_threads_matter(vae, threads):
    """If the host ever stops this, steady_vae.py can go."""
    found = []
    for number in THREADS:
        threads(number)
        found.append(vae.decode(latent_of(vae, (2, 6, 6))["samples"]))
    assert not all(torch.equal(one, found[0]) for one in found)


def test_the_network_is_unchanged_afterwards(vae):
    network = vae.first_stage_model
    before = [dict(vars(module)) for module in network.modules()]
    with pytest.raises(KeyError), steady_vae(network):
        assert [dict(vars(module)) for module in network.modules()] != before
        with steady_vae(network):
            pass
        raise KeyError
    assert [dict(vars(module)) for module in network.modules()] == before


def test_large_products_take_all_threads(threads):
    seen = []

    class Watched(torch.nn.Conv2d):
        def _conv_forward(self, *inputs):
            seen.append(torch.get_num_threads())
            return super()._conv_forward(*inputs)

    network = torch.nn.Sequential(Watched(4, 4, 1))
    few, many = torch.zeros(1, 4, FEW // 16, 4), torch.zeros(1, 4, FEW // 16, 8)
    for number in (1, 2, 4):
        threads(number)
        with steady_vae(network):
            network(few), network(many)
    assert seen == [2, 2, 2, 2, 2, 4]


@pytest.mark.parametrize("channels", [32, 384])
@pytest.mark.parametrize("size", [(FEW_POSITIONS // 32 + 1, 32), (41, 31)])
def test_products_of_larger_attentions_do_not_need_it(channels, size, threads):
    """What `FEW_POSITIONS` rests on: the two products of the host's attention, as it computes them."""
    generator, positions = torch.Generator().manual_seed(0), size[0] * size[1]
    q, k, v = (torch.randn(1, channels, positions, generator=generator) for _ in range(3))
    found = []
    for number in THREADS[1:]:
        threads(number)
        weights = torch.softmax(torch.bmm(q.permute(0, 2, 1), k) * positions**-0.5, dim=2)
        found.append(torch.bmm(v, weights.permute(0, 2, 1)))
    assert all(torch.equal(one, found[0]) for one in found)
