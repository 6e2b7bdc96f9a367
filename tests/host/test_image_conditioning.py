"""Image to video: latent and conditioning as each VAE gives them, what the host's models make of them, refusals."""

import comfy.latent_formats
import comfy.model_management
import comfy.sd
import comfy.utils
import pytest
import torch

from wan_gguf.host.image_conditioning import check_start_image_fits, image_to_video, with_values
from wan_gguf.host.models import load_diffusion_model
from wan_gguf.host.sampler import sample_latent
from wan_gguf.host.start_image import cover, stretch

SIZE = {"width": 64, "height": 32, "frames": 9, "batch_size": 1, "size_mode": "exact"}
SETTINGS = {"seed": 3, "steps": 3, "cfg": 2.0, "shift": 5.0, "solver": "unipc", "cfg_mode": "batched"}

pytestmark = pytest.mark.usefixtures("two_threads")


class Wan22Vae:
    """The interface of the host's Wan2.2 VAE; a latent pixel is 48 numbers of its 16 x 16 pixels, not normalised."""

    latent_channels, latent_dim = 48, 3

    def __init__(self):
        self.encoded = []
        self.first_stage_model = torch.nn.Identity()

    def spacial_compression_decode(self):
        return 16

    def temporal_compression_decode(self):
        return 4

    def encode(self, frames):
        self.encoded.append(frames)
        patches = torch.nn.functional.pixel_unshuffle(frames[:1].movedim(-1, 1), 16)
        return patches[:, ::16, None] * 3 + 1


class OtherVae(Wan22Vae):
    latent_channels = 12


@pytest.fixture(scope="module")
def vae21(root):
    """The reference model's: a Wan2.1 VAE of width 8, trained."""
    weights = comfy.utils.load_torch_file(str(root / "reference_model/files/wan_reference_vae.safetensors"))
    return comfy.sd.VAE(sd=weights, dtype=torch.float32)


@pytest.fixture
def image():
    """Twice as wide and high as the video."""
    return torch.rand(1, 64, 128, 3, generator=torch.Generator().manual_seed(8))


@pytest.fixture
def run(conditioning, image):
    """run(vae, **changed size) -> (positive, negative, latent)."""

    def make(vae, image=image, **changed):
        return image_to_video(vae, conditioning(1), conditioning(2), image, **{**SIZE, **changed})

    return make


def test_ti2v_the_first_latent_frame_is_the_encoded_image(run, image):
    vae = Wan22Vae()
    positive, negative, latent = run(vae, batch_size=2)
    assert [frames.shape for frames in vae.encoded] == [(1, 32, 64, 3)]  # one frame, once
    assert torch.equal(vae.encoded[0], cover(image, 64, 32))
    assert latent["samples"].shape == (2, 48, 3, 2, 4)
    first = vae.encode(vae.encoded[0])[0, :, 0]
    assert all(torch.equal(video[:, 0], first) for video in latent["samples"])
    assert latent["noise_mask"].shape == (2, 1, 3, 2, 4)
    assert latent["noise_mask"].mean(dim=(1, 3, 4)).tolist() == [[0, 1, 1]] * 2
    assert [extra for _, extra in positive + negative] == [{"pooled_output": None}] * 2


def test_ti2v_the_rest_is_empty_once_the_host_has_normalised_it(run):
    samples = comfy.latent_formats.Wan22().process_in(run(Wan22Vae())[2]["samples"])
    assert samples[:, :, 1:].abs().max() < 1e-6
    assert samples[:, :, 0].abs().mean() > 0.1


def test_i2v_the_image_and_grey_frames_go_into_the_conditioning(run, vae21, image, conditioning):
    positive, negative, latent = run(vae21)
    video = torch.full((9, 32, 64, 3), 0.5)  # 0 in the VAE's range -1 to 1
    video[:1] = cover(image, 64, 32)
    expected = vae21.first_stage_model.encode((2 * video - 1).movedim(-1, 0)[None])
    for (values, extra), (given, _) in zip(positive + negative, conditioning(1) + conditioning(2), strict=True):
        assert torch.equal(extra["concat_latent_image"], expected)
        assert extra["concat_mask"].shape == (1, 1, 3, 4, 8)
        assert extra["concat_mask"].mean(dim=(0, 1, 3, 4)).tolist() == [0, 1, 1]
        assert torch.equal(values, given)
        assert "pooled_output" in extra
    assert latent.keys() == {"samples"}
    assert latent["samples"].shape == (1, 16, 3, 4, 8)
    assert not latent["samples"].any()


def test_conditioning_given_is_not_changed(conditioning):
    given = conditioning(1)
    with_values(given, {"concat_mask": 1})
    assert given[0][1] == {"pooled_output": None}


def test_the_size_follows_the_image(run, vae21):
    """An area of 64 x 32 with the ratio 3 : 4: sqrt(2048 * 4 / 3) = 52.3 -> 48, sqrt(2048 * 3 / 4) = 39.2 -> 32."""
    tall = torch.rand(1, 80, 60, 3)
    positive, _, latent = run(vae21, image=tall, size_mode="image aspect ratio")
    assert latent["samples"].shape == (1, 16, 3, 6, 4)
    video = torch.full((9, 48, 32, 3), 0.5)
    video[:1] = stretch(tall, 32, 48)
    expected = vae21.first_stage_model.encode((2 * video - 1).movedim(-1, 0)[None])
    assert torch.equal(positive[0][1]["concat_latent_image"], expected)


def test_the_size_follows_the_image_in_steps_of_32(run):
    tall = torch.rand(1, 80, 60, 3)
    latent = run(Wan22Vae(), image=tall, width=128, height=128, size_mode="image aspect ratio")[2]
    # 110.9 -> 96, 16384 / 96 -> 160: ratio 0.6; 147.8 -> 128, 16384 / 128 = 128: ratio 1. 0.6 is nearer to 0.75.
    assert latent["samples"].shape[-2:] == (160 // 16, 96 // 16)


@pytest.mark.parametrize("size_mode", ["exact", "image aspect ratio"])
def test_without_an_image_it_is_text_to_video(vae21, conditioning, size_mode):
    given = conditioning(1), conditioning(2)
    for vae, shape in ((vae21, (2, 16, 3, 4, 8)), (Wan22Vae(), (2, 48, 3, 2, 4))):
        size = {**SIZE, "batch_size": 2, "size_mode": size_mode}
        positive, negative, latent = image_to_video(vae, *given, None, **size)
        assert (positive, negative) == given
        assert latent.keys() == {"samples"}
        assert latent["samples"].shape == shape
        assert not latent["samples"].any()


def test_what_does_not_fit_is_refused_before_anything_is_encoded(run, image):
    vae = Wan22Vae()
    with pytest.raises(ValueError, match="width must be a multiple of 32, got 48; nearest: 32 or 64"):
        run(vae, width=48)
    with pytest.raises(ValueError, match="frames must be 1"):
        run(vae, frames=8)
    with pytest.raises(ValueError, match="size mode: got 'fit'; exact or image aspect ratio is allowed"):
        run(vae, size_mode="fit")
    with pytest.raises(ValueError, match="start image: got 2 images"):
        run(vae, image=image.repeat(2, 1, 1, 1))
    assert vae.encoded == []
    with pytest.raises(ValueError, match=r"vae: the VAE connected has 12 channels; load wan_2.1_vae.safetensors or"):
        run(OtherVae())


@pytest.fixture
def ti2v(make_wan):
    return load_diffusion_model(make_wan(in_dim=48, out_dim=48, types={})[0])


@pytest.fixture
def i2v(make_wan):
    return load_diffusion_model(make_wan(in_dim=36, types={})[0])


def watch(model):
    """(input, times) of every call of the transformer."""
    calls = []
    model.model.diffusion_model.register_forward_pre_hook(lambda module, args: calls.append(args[:2]))
    return calls


@pytest.mark.parametrize("solver", ["unipc", "euler"])
def test_ti2v_end_to_end_keeps_the_first_frame(ti2v, run, solver):
    """The model sees it clean and at time 0 at every step, in each video of the batch, and the result holds it."""
    positive, negative, latent = run(Wan22Vae(), batch_size=2)
    calls = watch(ti2v)
    out = sample_latent(ti2v, positive, negative, latent, **{**SETTINGS, "solver": solver})
    latent_format = comfy.latent_formats.Wan22()
    clean = latent_format.process_in(latent["samples"])[:, :, 0]
    assert len(calls) == SETTINGS["steps"]
    for x, times in calls:
        assert times.shape == (4, 3)  # two videos, two prompts
        assert times[:, 0].tolist() == [0] * 4
        assert (times[:, 1] == times[:, 2]).all() and (times[:, 1] > 0).all()
        assert torch.equal(x[:, :, 0], clean.repeat(2, 1, 1, 1))
        assert not torch.equal(x[0, :, 1:], x[1, :, 1:])
    # normalised and back: one rounding each way of values up to 4
    assert (out["samples"][:, :, 0] - latent["samples"][:, :, 0]).abs().max() < 2e-6
    assert torch.isfinite(out["samples"]).all()
    assert not torch.equal(out["samples"][0, :, 1:], out["samples"][1, :, 1:])


def test_i2v_end_to_end(i2v, run, vae21):
    """The transformer gets noise, the mask four times, the normalised image; the conditioning stays as it was."""
    positive, negative, latent = run(vae21, batch_size=2)
    encoded = positive[0][1]["concat_latent_image"].clone()
    calls = watch(i2v)
    first, second = (sample_latent(i2v, positive, negative, latent, **SETTINGS)["samples"] for _ in range(2))
    known = torch.zeros(4, 4, 3, 4, 8)
    known[:, :, 0] = 1
    for x, times in calls:
        assert x.shape == (4, 36, 3, 4, 8)
        assert torch.equal(x[:, 16:20], known)
        expected = comfy.latent_formats.Wan21().process_in(encoded).repeat(4, 1, 1, 1, 1)
        assert (x[:, 20:] - expected).abs().max() < 1e-6
        assert times.shape == (4,)
    assert torch.equal(positive[0][1]["concat_latent_image"], encoded)
    assert torch.equal(first, second)
    assert torch.isfinite(first).all()
    other_image = run(vae21, batch_size=2, image=torch.zeros(1, 32, 64, 3))
    assert not torch.equal(sample_latent(i2v, *other_image, **SETTINGS)["samples"], first)


def test_the_stock_sampler_takes_both(ti2v, i2v, run, vae21):
    import nodes

    for model, vae in ((ti2v, Wan22Vae()), (i2v, vae21)):
        inputs = run(vae)
        calls = watch(model)
        out = nodes.KSampler().sample(model, 1, 2, 2.0, "euler", "simple", *inputs)[0]["samples"]
        assert torch.isfinite(out).all()
        assert calls
        if vae is not vae21:
            assert (out[:, :, 0] - inputs[2]["samples"][:, :, 0]).abs().max() < 2e-6


def test_the_stock_nodes_make_the_same_of_an_image_of_the_right_size(run, vae21, conditioning):
    """They differ in how they scale other images: bilinear, by the aspect ratio of the video."""
    from comfy_extras.nodes_wan import Wan22ImageToVideoLatent, WanImageToVideo

    generator = torch.Generator().manual_seed(9)
    image = torch.randint(0, 256, (1, 32, 64, 3), generator=generator) / 255
    size = SIZE["width"], SIZE["height"], SIZE["frames"], 2
    stock = Wan22ImageToVideoLatent.execute(Wan22Vae(), *size, start_image=image).args[0]
    ours = run(Wan22Vae(), image=image, batch_size=2)[2]
    assert torch.equal(ours["samples"], stock["samples"])
    assert torch.equal(ours["noise_mask"], stock["noise_mask"])
    *stock_texts, stock = WanImageToVideo.execute(
        conditioning(1), conditioning(2), vae21, *size, start_image=image
    ).args
    *texts, ours = run(vae21, image=image, batch_size=2)
    assert torch.equal(ours["samples"], stock["samples"])
    for text, stock_text in zip(texts, stock_texts, strict=True):
        for key in ("concat_latent_image", "concat_mask"):
            assert torch.equal(text[0][1][key], stock_text[0][1][key])


def test_a_start_image_for_a_text_model_is_refused(wan_file, run, vae21):
    positive, negative, latent = run(vae21)
    t2v = load_diffusion_model(wan_file[0])
    with pytest.raises(
        ValueError, match=r"positive: holds a start image, .* text-to-video model \(16 input channels\)"
    ):
        check_start_image_fits(t2v, latent["samples"], positive=positive, negative=negative)


def test_an_image_model_without_a_start_image_is_refused(i2v, run, conditioning, vae21):
    positive, _, latent = run(vae21)
    with pytest.raises(ValueError, match=r"negative: holds no start image, .* image-to-video model \(36 input chan"):
        check_start_image_fits(i2v, latent["samples"], positive=positive, negative=conditioning(1))


def test_a_start_image_of_another_size_is_refused(i2v, run, vae21):
    positive = run(vae21)[0]
    with pytest.raises(ValueError, match=r"positive: .* latent of \(3, 4, 8\), the latent connected is \(2, 4, 8\)"):
        check_start_image_fits(i2v, torch.zeros(1, 16, 2, 4, 8), positive=positive)


def test_what_belongs_together_passes(wan_file, ti2v, i2v, run, vae21, conditioning):
    for model, inputs in (
        (i2v, run(vae21)),
        (ti2v, run(Wan22Vae())),
        (load_diffusion_model(wan_file[0]), run(vae21, image=None)),
    ):
        check_start_image_fits(model, inputs[2]["samples"], positive=inputs[0], negative=inputs[1])
