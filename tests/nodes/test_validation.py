"""Bad input is refused before anything is loaded, in words that name the input and the remedy."""

import pytest

from wan_gguf.nodes.empty_latent import WanGGUFEmptyLatent
from wan_gguf.nodes.lora_loader import WanGGUFLoraLoader
from wan_gguf.nodes.model_loader import WanGGUFModelLoader
from wan_gguf.nodes.prompt import WanGGUFPrompt
from wan_gguf.nodes.sampler import WanGGUFSampler
from wan_gguf.nodes.text_encoder_loader import WanGGUFTextEncoderLoader


def assert_has(message: bool | str, *parts: str) -> None:
    assert isinstance(message, str), f"accepted; expected a message with {parts}"
    assert [part for part in parts if part not in message] == [], message


@pytest.mark.usefixtures("host_folders")
class TestModelFile:
    def test_a_wan_model_is_accepted(self):
        assert WanGGUFModelLoader.validate_inputs(model_name="wan.gguf") is True

    def test_a_missing_file(self):
        assert_has(WanGGUFModelLoader.validate_inputs(model_name="gone.gguf"), "gone.gguf", "models/")

    def test_a_text_encoder_in_the_model_slot(self):
        message = WanGGUFModelLoader.validate_inputs(model_name="umt5.gguf")
        assert_has(message, "'umt5.gguf' is a UMT5 text encoder", "'Wan GGUF Text Encoder Loader'")

    def test_not_a_gguf_file(self):
        assert_has(WanGGUFModelLoader.validate_inputs(model_name="notes.gguf"), "notes.gguf")

    def test_a_truncated_file(self):
        assert_has(WanGGUFModelLoader.validate_inputs(model_name="truncated.gguf"), "truncated.gguf")

    def test_a_path_out_of_the_folders(self):
        assert_has(
            WanGGUFModelLoader.validate_inputs(model_name="../../etc/passwd"), "passwd", "choose one from the list"
        )

    def test_linked(self):
        assert WanGGUFModelLoader.validate_inputs() is True


@pytest.mark.usefixtures("host_folders")
class TestTextEncoderFile:
    @pytest.mark.parametrize("name", ["umt5.safetensors", "umt5.gguf"])
    def test_a_text_encoder_is_accepted(self, name):
        assert WanGGUFTextEncoderLoader.validate_inputs(encoder_name=name) is True

    def test_a_diffusion_model_in_the_encoder_slot(self):
        message = WanGGUFTextEncoderLoader.validate_inputs(encoder_name="wan.gguf")
        assert_has(message, "'wan.gguf' is a Wan diffusion model", "'Wan GGUF Model Loader'")

    def test_a_vae_in_the_encoder_slot(self):
        message = WanGGUFTextEncoderLoader.validate_inputs(encoder_name="vae.safetensors")
        assert_has(message, "'vae.safetensors' is a Wan VAE", "'Load VAE'")

    def test_a_missing_file(self):
        message = WanGGUFTextEncoderLoader.validate_inputs(encoder_name="gone.gguf")
        assert_has(message, "gone.gguf", "models/")

    def test_linked(self):
        assert WanGGUFTextEncoderLoader.validate_inputs() is True


@pytest.mark.usefixtures("host_folders")
class TestLoraFile:
    def test_a_lora_is_accepted(self):
        assert WanGGUFLoraLoader.validate_inputs(lora_name="lora.safetensors") is True

    def test_a_missing_file(self):
        assert_has(WanGGUFLoraLoader.validate_inputs(lora_name="gone.safetensors"), "gone.safetensors", "models/loras")

    def test_not_a_lora(self):
        message = WanGGUFLoraLoader.validate_inputs(lora_name="vae.safetensors")
        assert_has(message, "vae.safetensors: is not a LoRA but a Wan VAE", "Load VAE")

    def test_a_pickle_of_either_name(self):
        assert_has(WanGGUFLoraLoader.validate_inputs(lora_name="pickle.safetensors"), "a pickle", ".safetensors")
        assert_has(WanGGUFLoraLoader.validate_inputs(lora_name="lora.pt"), "lora.pt", ".safetensors", "choose one")

    def test_linked(self):
        assert WanGGUFLoraLoader.validate_inputs() is True


class TestPrompt:
    def test_a_prompt_is_accepted(self):
        assert WanGGUFPrompt.validate_inputs(positive="（红色：1.2）的圆形", negative="") is True

    @pytest.mark.parametrize("text", ["", "  \n", "&nbsp;", "()"])
    def test_an_empty_prompt(self, text):
        assert_has(WanGGUFPrompt.validate_inputs(positive=text, negative=""), "positive", "empty", "English or Chinese")

    def test_a_weight_out_of_range(self):
        assert_has(
            WanGGUFPrompt.validate_inputs(positive="a (red:99) circle", negative=""), "positive: ", "99", "0 to 10"
        )
        assert_has(WanGGUFPrompt.validate_inputs(positive="a circle", negative="（红：nan）"), "negative: ", "nan")

    def test_linked(self):
        assert WanGGUFPrompt.validate_inputs() is True


class TestEmptyLatent:
    @pytest.mark.parametrize(("width", "height", "frames"), [(832, 480, 81), (16, 16, 1), (1280, 704, 121)])
    def test_allowed_sizes(self, width, height, frames):
        assert WanGGUFEmptyLatent.validate_inputs(width=width, height=height, frames=frames) is True

    def test_frames_name_the_nearest(self):
        message = WanGGUFEmptyLatent.validate_inputs(width=64, height=64, frames=80)
        assert message == "frames must be 1 + a multiple of 4, got 80; nearest: 77 or 81"

    @pytest.mark.parametrize("name", ["width", "height"])
    @pytest.mark.parametrize(("value", "nearest"), [(100, "96 or 112"), (0, "16"), (-16, "16")])
    def test_sides_name_the_nearest(self, name, value, nearest):
        message = WanGGUFEmptyLatent.validate_inputs(**{"width": 64, "height": 64, "frames": 17, name: value})
        assert_has(message, f"{name} must be a multiple of 16", f"got {value}", f"nearest: {nearest}")

    @pytest.mark.parametrize(("name", "value"), [("width", 16400), ("height", 16400), ("frames", 16389)])
    def test_ranges_that_naming_an_input_switches_off(self, name, value):
        message = WanGGUFEmptyLatent.validate_inputs(**{"width": 64, "height": 64, "frames": 17, name: value})
        assert_has(message, f"{name} must be at most", f"got {value}")

    def test_frames_below_one(self):
        assert_has(WanGGUFEmptyLatent.validate_inputs(frames=0), "frames", "got 0", "nearest: 1")

    def test_linked(self):
        assert WanGGUFEmptyLatent.validate_inputs() is True
        assert_has(WanGGUFEmptyLatent.validate_inputs(height=100), "height")


class TestSampler:
    @pytest.mark.parametrize("cfg", [1.0, 5.0, 15.0])
    def test_allowed_cfg(self, cfg):
        assert WanGGUFSampler.validate_inputs(cfg=[cfg]) is True

    @pytest.mark.parametrize("cfg", [0.0, 0.99, 15.1, float("nan"), float("inf"), -3.0])
    def test_cfg_out_of_range(self, cfg):
        assert_has(WanGGUFSampler.validate_inputs(cfg=[cfg]), "cfg must be from 1.0 to 15.0", f"got {cfg}")

    @pytest.mark.parametrize("cfg", [0.0, 1.0, 3.0, 15.0])
    def test_allowed_cfg_of_the_low_noise_expert(self, cfg):
        assert WanGGUFSampler.validate_inputs(cfg=[5.0], cfg_low_noise=[cfg]) is True

    @pytest.mark.parametrize("cfg", [-1.0, 0.5, 15.1, float("nan")])
    def test_cfg_of_the_low_noise_expert_out_of_range(self, cfg):
        found = WanGGUFSampler.validate_inputs(cfg=[5.0], cfg_low_noise=[cfg])
        assert_has(found, "cfg_low_noise must be from 1.0 to 15.0", f"got {cfg}")

    def test_linked(self):
        assert WanGGUFSampler.validate_inputs() is True
        assert WanGGUFSampler.validate_inputs(cfg=(None,), cfg_low_noise=(None,)) is True  # as the host writes it


@pytest.mark.usefixtures("host_folders")
class TestFingerprint:
    def test_a_changed_file_is_loaded_again(self, host_folders):
        def fingerprints():
            model = WanGGUFModelLoader.fingerprint_inputs(model_name="copy.gguf", dtype="auto")
            return model, WanGGUFTextEncoderLoader.fingerprint_inputs(encoder_name="copy.gguf")

        self.check(host_folders / "copy.gguf", fingerprints)

    def test_a_changed_lora_is_loaded_again(self, host_folders):
        def fingerprints():
            return [WanGGUFLoraLoader.fingerprint_inputs(lora_name="copy.safetensors", strength=1.0, model=None)]

        self.check(host_folders / "copy.safetensors", fingerprints)

    @staticmethod
    def check(path, fingerprints):
        path.write_bytes(b"x" * 100)
        try:
            first = fingerprints()
            assert fingerprints() == first
            path.write_bytes(b"x" * 101)
            assert all(new != old for new, old in zip(fingerprints(), first, strict=True))
        finally:
            path.unlink()
