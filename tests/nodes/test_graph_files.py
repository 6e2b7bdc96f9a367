"""Published files in the wrong place: refused from their headers, with the name of the file that is needed."""

import logging

import pytest
from comfy_api.latest import io

from wan_gguf.host.paths import register_folders
from wan_gguf.nodes.graph import log_hints, refuse_wrong_files
from wan_gguf.nodes.graph_experts import expert_pairs
from wan_gguf.nodes.graph_loras import model_lora_pairs
from wan_gguf.nodes.graph_vae import model_vae_pairs
from wan_gguf.nodes.lora_loader import WanGGUFLoraLoader
from wan_gguf.nodes.model_files import refuse_file
from wan_gguf.tests.nodes.published import (
    FP8_UMT5,
    HIGH,
    I2V_HIGH,
    I2V_LOW,
    LOW,
    RENAMED,
    RENAMED_TOO,
    TI2V,
    TINY,
    UMT5,
    VAE_OF,
    WAN_21,
    WAN_21_I2V,
    workflow,
    write_published,
)

KEYS = ("diffusion_models", "text_encoders", "vae", "loras")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return write_published(tmp_path_factory.mktemp("published"))


@pytest.fixture(autouse=True)
def published_folders(published):
    """The host lists the published files while a test runs."""
    import folder_paths

    register_folders()
    for key in KEYS:
        folder_paths.add_model_folder_path(key, str(published))
    folder_paths.filename_list_cache.clear()
    yield
    for key in KEYS:
        folder_paths.folder_names_and_paths[key][0].remove(str(published))
    folder_paths.filename_list_cache.clear()


def hidden(graph: dict, node: str = "model") -> io.HiddenHolder:
    return io.HiddenHolder.from_dict({io.Hidden.prompt: graph, io.Hidden.unique_id: node})


def refusal(graph: dict, node: str = "model") -> str:
    """The message, or an empty string."""
    try:
        refuse_wrong_files(hidden(graph, node))
    except ValueError as error:
        return str(error)
    return ""


class TestExperts:
    @pytest.mark.parametrize(
        ("high", "low"), [(HIGH, LOW), (I2V_HIGH, I2V_LOW), (RENAMED, RENAMED_TOO), (HIGH, RENAMED), (RENAMED, LOW)]
    )
    def test_a_pair_that_fits_is_compared_and_passes(self, high, low):
        graph = workflow(high, low)
        assert list(expert_pairs(graph, "model")) == [(high, low)]
        assert refusal(graph) == ""

    @pytest.mark.parametrize("node", ["model", "low", "encoder", "prompt", "vae", "latent"])
    def test_whichever_node_runs_first_refuses(self, node):
        assert "choose" in refusal(workflow(HIGH, HIGH), node)

    def test_the_high_noise_file_twice_names_its_twin(self):
        """Two loaders, with LoRAs between."""
        graph = workflow(HIGH, HIGH, loras=["lora_5120.safetensors"], low_loras=["lora_5120.safetensors"] * 2)
        assert refusal(graph) == (
            f"low_noise_model: '{HIGH}' is the file of the input model too; choose {LOW} for low_noise_model"
        )

    def test_the_low_noise_file_twice_names_its_twin(self):
        assert refusal(workflow(LOW, LOW)).endswith(f"choose {HIGH} for model")

    def test_one_loader_in_both_inputs(self):
        graph = workflow(RENAMED, loras=["lora_5120.safetensors"])
        graph["sampler"]["inputs"]["low_noise_model"] = ["model", 0]
        assert refusal(graph) == (
            f"low_noise_model: '{RENAMED}' is the file of the input model too; choose "
            "Wan2.2-T2V-A14B-LowNoise-*.gguf for low_noise_model"
        )

    def test_swapped_experts(self):
        message = refusal(workflow(LOW, HIGH))
        assert "look swapped" in message
        assert f"choose '{HIGH}' for model and '{LOW}' for low_noise_model" in message

    def test_two_files_of_one_expert(self, published):
        other = "another_high_noise_14B.gguf"
        (published / other).symlink_to(published / RENAMED)
        try:
            assert refusal(workflow(HIGH, other)).endswith(f"as '{HIGH}' is; choose {LOW}")
        finally:
            (published / other).unlink()

    @pytest.mark.parametrize(("high", "low"), [(TI2V, LOW), (HIGH, TI2V), (TINY, RENAMED), (WAN_21_I2V, I2V_LOW)])
    def test_a_model_without_experts(self, high, low):
        assert "one model for all noise levels; leave low_noise_model unconnected" in refusal(workflow(high, low))

    def test_ti2v_is_named(self):
        assert refusal(workflow(TI2V, LOW)).startswith(f"model: '{TI2V}' is Wan2.2 TI2V-5B, one model")

    def test_wan_21_by_its_name(self):
        assert refusal(workflow(WAN_21, LOW)).startswith(f"model: '{WAN_21}' is called Wan2.1, one model")
        assert refusal(workflow(HIGH, WAN_21)) == ""  # some use it so, and the shapes are the same

    def test_text_and_image_experts_mixed(self):
        assert refusal(workflow(HIGH, I2V_LOW)) == (
            f"low_noise_model: '{I2V_LOW}' is Wan2.2 I2V-A14B, the model '{HIGH}' is Wan2.2 T2V-A14B or Wan2.1 "
            f"T2V-14B; both experts must be of one model: choose {LOW} for low_noise_model"
        )

    def test_one_expert_alone_is_a_hint_only(self, caplog):
        graph = workflow(HIGH)
        assert refusal(graph) == ""
        with caplog.at_level(logging.WARNING):
            log_hints(hidden(graph))
        assert [record.message for record in caplog.records] == [
            f"'{HIGH}' is the high-noise expert by its name and samples all steps alone; the other one is {LOW}, the "
            "sampler's input low_noise_model is for the low-noise expert"
        ]

    def test_a_lora_of_the_other_expert_is_a_hint_only(self, caplog):
        graph = workflow(HIGH, LOW, low_loras=["t2v_high_noise_lora.safetensors"])
        assert refusal(graph) == ""
        with caplog.at_level(logging.WARNING):
            log_hints(hidden(graph))
            log_hints(hidden(workflow(RENAMED, RENAMED_TOO, loras=["high.safetensors"])))
            log_hints(None)
        assert [record.message for record in caplog.records] == [
            "the LoRA 't2v_high_noise_lora.safetensors' is for the high-noise expert by its name and is used on the "
            "input low_noise_model"
        ]


class TestVAE:
    @pytest.mark.parametrize(("model", "low"), [(HIGH, LOW), (TI2V, None)])
    def test_the_right_one_is_compared_and_passes(self, model, low):
        graph = workflow(model, low)
        found = set(model_vae_pairs(graph, "model"))
        assert {name for name, _ in found} == {model, low} - {None}
        assert refusal(graph) == ""

    @pytest.mark.parametrize(("model", "right"), [(HIGH, 16), (TI2V, 48)])
    def test_the_other_one_names_the_right_one(self, model, right):
        message = refusal(workflow(model, vae=VAE_OF[64 - right]))
        assert message.startswith(f"the VAE '{VAE_OF[64 - right]}' has {64 - right} channels")
        assert message.endswith(f"choose {VAE_OF[right]} in 'Load VAE'")

    def test_an_image_models_vae(self):
        assert refusal(workflow(TI2V, vae="ae.safetensors")) == (
            "'ae.safetensors', chosen as the VAE, is an image VAE, as of Stable Diffusion or Flux; choose "
            "wan2.2_vae.safetensors in 'Load VAE'"
        )


class TestLoras:
    @pytest.mark.parametrize("kind", ["WanGGUFLoraLoader", "LoraLoaderModelOnly", "LoraLoader"])
    @pytest.mark.parametrize("lora", ["lora_5120.safetensors", "lora_kohya_3072.safetensors"])
    def test_another_size(self, kind, lora):
        graph = workflow(TINY, loras=[lora], lora_kind=kind)
        width, models = {"5": (5120, "Wan2.2 A14B and Wan2.1 14B"), "k": (3072, "Wan2.2 TI2V-5B")}[lora[5]]
        assert refusal(graph) == (
            f"LoRA '{lora}' is for a model of width {width} ({models}); the model '{TINY}' is Wan2.1 T2V-1.3B, width "
            "1536; choose a LoRA made for Wan2.1 T2V-1.3B"
        )

    @pytest.mark.parametrize(("model", "width"), [(TINY, 1536), (TI2V, 3072), (HIGH, 5120), (WAN_21_I2V, 5120)])
    def test_the_right_size_is_compared_and_passes(self, model, width):
        graph = workflow(model, loras=[f"lora_{width}.safetensors"])
        assert set(model_lora_pairs(graph, "model")) == {(model, f"lora_{width}.safetensors")}
        assert refusal(graph) == ""

    def test_an_image_lora_on_a_text_model_passes(self):
        """Its patch embedding is left out, which the loader reports."""
        assert refusal(workflow(HIGH, loras=["lora_i2v_5120.safetensors"])) == ""

    def test_on_the_low_noise_model(self):
        message = refusal(workflow(HIGH, LOW, low_loras=["lora_5120.safetensors", "lora_1536.safetensors"]))
        assert message.startswith("LoRA 'lora_1536.safetensors' is for a model of width 1536 (Wan2.1 1.3B); the model")

    def test_of_another_family(self):
        message = refusal(workflow(HIGH, loras=["lora_flux.safetensors"]))
        assert "none of its 16 tensors belongs to" in message
        assert "Flux" in message

    def test_the_hosts_nodes_leave_a_lora_of_strength_0_out(self):
        graph = workflow(TINY, loras=["lora_5120.safetensors"], lora_kind="LoraLoaderModelOnly")
        graph["model lora 0"]["inputs"]["strength_model"] = 0
        assert refusal(graph) == ""

    @pytest.mark.parametrize("lora", ["gone.safetensors", "wan2.2_vae.safetensors", "x.pt", "\0"])
    def test_a_file_that_cannot_be_read_is_left_to_its_loader(self, lora):
        graph = workflow(TINY, loras=[lora])
        assert set(model_lora_pairs(graph, "model")) == {(TINY, lora)}
        assert refusal(graph) == ""
        assert isinstance(WanGGUFLoraLoader.validate_inputs(lora_name=lora), str)


class TestTextEncoder:
    @pytest.mark.parametrize("encoder", [UMT5, FP8_UMT5, "gone.gguf"])
    def test_umt5_and_what_nobody_knows_pass(self, encoder):
        assert refusal(workflow(HIGH, encoder=encoder)) == ""

    def test_another_size(self):
        assert refusal(workflow(HIGH, encoder="umt5-base.gguf")) == (
            f"the text encoder 'umt5-base.gguf' is 768 wide, the model '{HIGH}' (Wan2.2 T2V-A14B or Wan2.1 T2V-14B) "
            "takes 4096; choose umt5-xxl-encoder-*.gguf or umt5_xxl_fp16.safetensors"
        )

    @pytest.mark.parametrize(
        ("encoder", "what"),
        [
            ("t5-v1_1-xxl-encoder-Q4_K_M.gguf", "a T5 text encoder, not UMT5"),
            ("clip_l.safetensors", "a CLIP text encoder"),
            ("qwen2.5-7b-instruct.gguf", "a language model"),
            (VAE_OF[16], "Wan 2.1 VAE"),
        ],
    )
    @pytest.mark.parametrize("kind", ["CLIPLoader", "CLIPLoaderGGUF"])
    def test_other_encoders_in_the_hosts_loader(self, encoder, what, kind):
        graph = workflow(HIGH)
        graph["encoder"] = {"class_type": kind, "inputs": {"clip_name": encoder, "type": "wan"}}
        message = refusal(graph)
        assert message.startswith(f"'{encoder}' is {what}")
        assert message.endswith("choose umt5-xxl-encoder-*.gguf or umt5_xxl_fp16.safetensors")

    @pytest.mark.parametrize("prompt", ["WanGGUFPrompt", "CLIPTextEncode"])
    def test_the_hosts_loader_with_another_type(self, prompt):
        graph = workflow(HIGH)
        inputs = {"clip_name": FP8_UMT5, "type": "flux2"}
        graph["encoder"] = {"class_type": "CLIPLoader", "inputs": inputs, "_meta": {"title": "Load CLIP"}}
        graph["prompt"]["class_type"] = prompt
        assert refusal(graph).startswith("'Load CLIP' loads the text encoder as type flux2; choose type wan there")
        inputs["type"] = "wan"
        assert refusal(graph) == ""

    def test_several_encoders(self):
        graph = workflow(HIGH)
        graph["encoder"] = {"class_type": "DualCLIPLoaderGGUF", "inputs": {"clip_name1": UMT5, "type": "flux"}}
        assert refusal(graph).startswith("'DualCLIPLoaderGGUF' loads several text encoders, Wan takes one: UMT5-XXL")

    def test_of_a_model_that_is_not_wan(self):
        graph = workflow(HIGH)
        graph["model"] = {"class_type": "UNETLoader", "inputs": {"unet_name": "flux1-dev.safetensors"}}
        graph["prompt"]["class_type"] = "CLIPTextEncode"
        graph["encoder"] = {"class_type": "CLIPLoader", "inputs": {"clip_name": "clip_l.safetensors", "type": "sd3"}}
        assert refusal(graph, "encoder") == ""
        graph["model"] = workflow(HIGH)["model"]
        assert "as type sd3" in refusal(graph, "encoder")


class TestSlots:
    """One file in a loader of ours, as the node's validation sees it."""

    @pytest.mark.parametrize(
        ("file", "words"),
        [
            ("flux1-dev.gguf", "is a Flux model, not a Wan diffusion model in GGUF; this pack runs Wan2.1 and"),
            ("hunyuan-video.gguf", "is a Hunyuan video model"),
            ("ltxv.gguf", "is an LTX video model"),
            ("qwen-image.gguf", "is a Qwen-Image model"),
            ("sd3.5.gguf", "is a Stable Diffusion 3 model"),
            ("qwen2.5-7b-instruct.gguf", "is a language model"),
            ("t5-v1_1-xxl-encoder-Q4_K_M.gguf", "is a T5 text encoder, not UMT5"),
            ("lora.gguf", "is a LoRA, not a Wan diffusion model in GGUF; load it with the LoRA loader"),
            ("vae.gguf", "is a Wan VAE, not a Wan diffusion model in GGUF; choose it in the host's 'Load VAE'"),
            ("renamed.gguf", "is a Wan transformer as safetensors, not a Wan diffusion model in GGUF"),
            (UMT5, "is a UMT5 text encoder"),
        ],
    )
    def test_in_the_model_slot(self, file, words):
        message = refuse_file("unet_gguf", file, "wan")
        assert message.startswith(f"'{file}' {words}")
        assert "; choose here Wan2.2-TI2V-5B-*.gguf, or" in message

    @pytest.mark.parametrize(
        ("file", "words"),
        [
            ("t5-v1_1-xxl-encoder-Q4_K_M.gguf", "is a T5 text encoder, not UMT5 (it has a relative bias in its first"),
            ("clip_l.safetensors", "is a CLIP text encoder"),
            ("qwen2.5-7b-instruct.gguf", "is a language model"),
            ("lora_5120.safetensors", "is a LoRA"),
            ("ae.safetensors", "is an image VAE"),
            (VAE_OF[48], "is a Wan VAE"),
            (HIGH, "is a Wan diffusion model"),
        ],
    )
    def test_in_the_text_encoder_slot(self, file, words):
        message = refuse_file("clip_gguf", file, "umt5")
        assert message.startswith(f"'{file}' {words}")
        assert message.endswith("choose here umt5-xxl-encoder-*.gguf or umt5_xxl_fp16.safetensors")

    @pytest.mark.parametrize("file", [HIGH, LOW, I2V_HIGH, TI2V, TINY, WAN_21, WAN_21_I2V])
    def test_the_right_ones(self, file):
        assert refuse_file("unet_gguf", file, "wan") is None
        assert refuse_file("clip_gguf", UMT5, "umt5") is None
