"""NaN and empty latents stop the run with the step, the layer and the likely causes; a healthy run is left alone."""

import comfy.model_management
import comfy.sample
import comfy.samplers
import pytest
import torch

from wan_gguf.host.models import ATTACHMENT, load_diffusion_model
from wan_gguf.host.watch import check_denoised, check_final, first_bad_layer, is_finite
from wan_gguf.loaders.gguf import open_gguf

NAN, INF = float("nan"), float("inf")
HALF_NAN = (0x7E00).to_bytes(2, "little")


@pytest.fixture
def model(wan_file):
    return load_diffusion_model(wan_file[0], "fp32")


@pytest.fixture
def run(conditioning):
    """run(model) -> the latent of two euler steps in the host's guider, each of them checked; positive prompt only."""

    def run(model, watched=True, positive=None, calls=None):
        def sampler(denoiser, x, sigmas, extra_args=None, callback=None, disable=None):
            for step in range(len(sigmas) - 1):

                def evaluate(x=x, sigma=sigmas[step]):
                    if calls is not None:
                        calls.append(float(sigma))
                    return denoiser(x, sigma * x.new_ones(x.shape[0]), **extra_args)

                denoised = evaluate()
                if watched:
                    check_denoised(denoised, step + 1, 2, model, x, again=evaluate)
                x = x + (x - denoised) / sigmas[step] * (sigmas[step + 1] - sigmas[step])
            return x

        latent = torch.zeros(1, 16, 2, 8, 8)
        return comfy.sample.sample_custom(
            model, comfy.sample.prepare_noise(latent, 1), 1.0, comfy.samplers.KSAMPLER(sampler),
            torch.tensor([1.0, 0.8, 0.5]), positive or conditioning(1), conditioning(2), latent, disable_pbar=True,
        )  # fmt: skip

    return run


def failure(function, *args, **kwargs) -> str:
    with pytest.raises(RuntimeError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


class TestHealthy:
    def test_nothing_is_raised_repeated_or_changed(self, model, run):
        calls = []
        out = run(model, calls=calls)
        assert calls == pytest.approx([1.0, 0.8])
        assert torch.equal(out, run(model, watched=False))
        check_final(out, model)

    @pytest.mark.parametrize("values", [[1e38] * 8, [-1e38] * 8, [3e38, -3e38, 1.0]])
    def test_finite_values_whose_sum_is_not(self, values):
        assert is_finite(torch.tensor(values))

    @pytest.mark.parametrize("value", [NAN, INF, -INF])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_one_bad_value_among_many(self, value, dtype):
        values = torch.ones(100000, dtype=dtype)
        assert is_finite(values)
        values[77777] = value
        assert not is_finite(values)


class TestLayers:
    @pytest.mark.parametrize("layer", ["patch_embedding", "blocks.0.self_attn.k", "blocks.1.ffn.2", "head.head"])
    @pytest.mark.parametrize("value", [NAN, INF])
    def test_the_layer_where_it_begins_is_named(self, model, run, layer, value):
        module = model.model.diffusion_model.get_submodule(layer)
        handle = module.register_forward_hook(lambda module, args, output: output * value)
        message = failure(run, model)
        handle.remove()
        assert message.startswith("sampling step 1 of 2: the model gave NaN or infinite values (")
        assert f"; it began in the layer {layer} (" in message
        assert "Likely causes: " in message

    def test_between_layers_the_block_is_named(self, model, run):
        model.model.diffusion_model.blocks[1].modulation.data.fill_(NAN)
        message = failure(run, model)
        assert "it began in the layer blocks.1 (WanAttentionBlock)" in message
        assert "The cause: tensor blocks.1.modulation holds NaN" in message

    def test_later_steps_count(self, model, run):
        steps = iter([1.0, NAN, NAN])
        layer = model.model.diffusion_model.blocks[0].ffn[0]
        handle = layer.register_forward_hook(lambda module, args, output: output * next(steps))
        message = failure(run, model)
        handle.remove()
        assert message.startswith("sampling step 2 of 2: ")
        assert "layer blocks.0.ffn.0 (weight in Q4_K)" in message

    def test_no_hook_stays(self, model, run):
        layer = model.model.diffusion_model.blocks[0].ffn[0]
        handle = layer.register_forward_hook(lambda module, args, output: output * NAN)
        failure(run, model)
        handle.remove()
        modules = list(model.model.diffusion_model.modules())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)
        assert is_finite(run(model))

    def test_the_encoded_prompt(self, model, run, conditioning):
        positive = conditioning(1)
        positive[0][0][0, 3] = NAN
        assert "What goes into the model has them already: the encoded prompt" in failure(run, model, positive=positive)

    def test_the_guidance(self, model, run):
        broken = model.clone()
        broken.set_model_sampler_post_cfg_function(lambda args: args["denoised"] * NAN)
        assert "Every layer's output is finite: it is the guidance, a cfg" in failure(run, broken)

    def test_a_failure_that_does_not_come_again(self, model, run):
        broken = model.clone()
        factors = iter([NAN, 1.0])
        broken.set_model_sampler_post_cfg_function(lambda args: args["denoised"] * next(factors))
        assert "computed again is finite: the device is unstable" in failure(run, broken)

    def test_a_model_that_does_not_call_its_hooks(self, model):
        """A compiled one: no layer, but the causes."""
        bad = torch.full((1, 16, 2, 8, 8), NAN)
        assert first_bad_layer(model.model.diffusion_model, lambda: bad).where == "unknown"
        message = failure(check_denoised, bad, 3, 9, model, torch.zeros(1), again=lambda: bad)
        assert message.startswith("sampling step 3 of 9: the model gave NaN or infinite values (2048 of 2048 values, ")
        assert "100 %: 2048 NaN). Likely causes: " in message

    def test_a_latent_that_was_bad_before(self, model):
        bad = torch.tensor([1.0, NAN, INF, 1.0])
        message = failure(check_denoised, bad, 1, 9, model, bad)
        assert "(2 of 4 values, 50 %: 1 NaN and 1 infinite)" in message
        assert "the latent that went into the step has them already" in message


def damaged(path, tensor: str, byte: int, raw: bytes):
    """The file with bytes of one tensor replaced, in place."""
    with open_gguf(path) as file:
        offset = file.tensors[tensor].offset + byte
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(raw)
    return path


class TestWeights:
    @pytest.mark.parametrize(
        ("layer", "type_name", "byte"),
        [
            ("blocks.0.self_attn.q", "Q8_0", 34 * 7),  # d of a block
            ("blocks.1.self_attn.o", "Q4_K", 144 * 200 + 2),  # dmin of a super-block in a later row
            ("blocks.1.self_attn.v", "Q6_K", 210 - 2),  # d at the end of one
            ("blocks.0.cross_attn.q", "F16", 0),
            ("head.head", "Q4_0", 18),  # small enough for the host to hold it dense
        ],
    )
    @pytest.mark.parametrize("known", [True, False])
    def test_a_damaged_tensor_is_named_with_its_file(self, make_wan, run, layer, type_name, byte, known):
        name = f"{layer}.weight"
        path = damaged(make_wan(seed=41)[0], name, byte, HALF_NAN)
        model = load_diffusion_model(path, "fp32")
        if known:
            message = failure(run, model)
            assert f"it began in the layer {layer} (weight in {type_name})" in message
        else:
            message = failure(check_denoised, torch.tensor(NAN), 1, 2, model, torch.zeros(1))
        assert message.endswith(
            f"The cause: tensor {name} ({type_name}) holds NaN or infinite values; tiny_41.gguf is damaged, download "
            "it again"
        )

    def test_a_damaged_norm(self, make_wan):
        path = damaged(make_wan(seed=42)[0], "blocks.0.norm3.weight", 8, torch.tensor(INF).numpy().tobytes())
        model = load_diffusion_model(path, "fp32")
        message = failure(check_denoised, torch.tensor(NAN), 1, 2, model, torch.zeros(1))
        assert "The cause: tensor blocks.0.norm3.weight holds" in message

    def test_a_damaged_lora(self, model, make_lora, add_lora, run):
        lora = make_lora(seed=1)
        lora["diffusion_model.blocks.1.ffn.0.lora_up.weight"][5, 0] = NAN
        message = failure(run, add_lora(model, lora))
        assert "it began in the layer blocks.1.ffn.0 (weight in Q4_K)" in message
        assert "The cause: the LoRA on blocks.1.ffn.0 holds NaN or infinite values; use another LoRA file" in message

    def test_reading_the_weights_can_be_interrupted(self, model):
        comfy.model_management.interrupt_current_processing()
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            check_denoised(torch.tensor(NAN), 1, 2, model, torch.zeros(1))


class TestSuspects:
    @staticmethod
    def causes(model) -> str:
        return failure(check_denoised, torch.tensor(NAN), 1, 2, model, torch.zeros(1)).partition("Likely causes: ")[2]

    @pytest.mark.parametrize(
        ("dtype", "cause"),
        [
            ("fp16", "dtype fp16, which ends at 65504, while Wan was trained in bf16: load the model with dtype bf16"),
            ("bf16", "bfloat16 arithmetic: load the model with dtype fp32 to compare"),
        ],
    )
    def test_the_dtype(self, wan_file, model, dtype, cause):
        assert self.causes(load_diffusion_model(wan_file[0], dtype)).startswith(cause)
        assert "dtype" not in self.causes(model)

    def test_loras_by_name_and_strength(self, model):
        settings = {"loras": [{"file": "a.safetensors", "strength": 5.0}]}
        patched = model.clone()
        patched.set_attachments(ATTACHMENT, settings)
        assert "a LoRA that is too strong or for another model: a.safetensors at strength 5;" in self.causes(patched)

    def test_loras_of_other_loaders(self, model, make_lora, add_lora):
        assert "a LoRA that is too strong" not in self.causes(model)
        assert "a LoRA that is too strong or for another model" in self.causes(add_lora(model, make_lora()))

    def test_mode_and_attention(self, wan_file, model):
        assert "mode int8: try mode exact" in self.causes(load_diffusion_model(wan_file[0], "fp32", "int8"))
        chosen = model.clone()
        chosen.model_options["transformer_options"]["optimized_attention_override"] = print
        assert "the attention that another node chose" in self.causes(chosen)


class TestFinal:
    @pytest.fixture
    def filled(self, model):
        """filled(latent of the model's own scale) -> as the VAE takes it."""
        return model.get_model_object("latent_format").process_out

    def test_a_latent_that_the_model_did_not_fill(self, model, filled):
        message = failure(check_final, filled(torch.zeros(1, 16, 2, 8, 8)), model)
        assert message.startswith("the sampled latent is the same everywhere (largest standard deviation of a channel ")
        assert "it would decode to a black or plain video. Likely causes: " in message

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_one_plain_video_of_two(self, model, filled, dtype):
        latent = torch.randn(2, 16, 2, 8, 8, generator=torch.Generator().manual_seed(0))
        check_final(filled(latent).to(dtype), model)
        latent[1] = torch.arange(16.0)[:, None, None, None]
        assert "the same everywhere" in failure(check_final, filled(latent).to(dtype), model)

    def test_a_plain_scene_is_content(self, model, filled):
        """Black video at 1280 x 704 by the comment's estimate, 0.07; here in one channel only."""
        latent = torch.zeros(1, 16, 2, 8, 8)
        latent[:, 3] = 0.07 * torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(0))
        check_final(filled(latent), model)

    def test_too_few_values_to_judge(self, model, filled):
        check_final(filled(torch.zeros(1, 16, 1, 2, 2)), model)

    @pytest.mark.parametrize("value", [NAN, INF])
    def test_not_finite(self, model, value):
        latent = torch.randn(1, 16, 2, 8, 8)
        latent[0, 0, 0, 0, 0] = value
        assert failure(check_final, latent, model).startswith("the sampled latent has NaN or infinite values (1 of")
