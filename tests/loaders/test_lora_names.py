"""Names in LoRA files, in every spelling, become the official code's module names."""

import pytest

from wan_gguf.loaders.lora_names import DOWN, UP, family, spellings, split_name
from wan_gguf.loaders.wan_config import wan_shapes

I2V = {
    "model_type": "i2v", "in_dim": 36, "out_dim": 16, "dim": 256, "ffn_dim": 512, "freq_dim": 256, "text_dim": 256,
    "num_heads": 2, "num_layers": 12, "qk_norm": True, "cross_attn_norm": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "module", "part"),
    [
        ("diffusion_model.blocks.0.self_attn.q.lora_down.weight", "blocks.0.self_attn.q", DOWN),
        ("diffusion_model.blocks.39.ffn.2.alpha", "blocks.39.ffn.2", "alpha"),
        ("diffusion_model.blocks.0.modulation.diff", "blocks.0.modulation", "diff"),
        ("diffusion_model.blocks.0.self_attn.q.diff_b", "blocks.0.self_attn.q", "diff_b"),
        ("model.diffusion_model.head.head.lora_up.weight", "head.head", UP),
        ("lora_unet_blocks_0_self_attn_q.lora_up.weight", "blocks_0_self_attn_q", UP),
        ("lora_unet__blocks_0_cross_attn_k.lora_down.weight", "blocks_0_cross_attn_k", DOWN),
        ("lycoris_blocks_0_ffn_0.lokr_w1", "blocks_0_ffn_0", "lokr_w1"),
        ("transformer.blocks.0.attn1.to_out.0.lora_A.weight", "blocks.0.attn1.to_out.0", DOWN),
        ("transformer.blocks.0.attn1.to_q_lora.up.weight", "blocks.0.attn1.to_q", UP),
        ("base_model.model.blocks.0.self_attn.q.lora_B.weight", "blocks.0.self_attn.q", UP),
        ("base_model.model.transformer.proj_out.lora_B.default.weight", "proj_out", UP),
        ("pipe.dit.blocks.0.ffn.0.lora_A.default.weight", "blocks.0.ffn.0", DOWN),
        ("blocks.0.ffn.0.lora_A", "blocks.0.ffn.0", DOWN),
        ("blocks.0.ffn.0.lora.down.weight", "blocks.0.ffn.0", DOWN),
        ("blocks.0.ffn.0.lora_linear_layer.up.weight", "blocks.0.ffn.0", UP),
    ],
)
def test_a_name_has_a_module_and_a_part(name, module, part):
    assert split_name(name) == (module, part)


@pytest.mark.parametrize("name", ["blocks.0.ffn.0.weight", "blocks.0.ffn.0.lora_B.bias", "notes", "alpha", ""])
def test_other_tensors_are_no_part_of_a_lora(name):
    assert split_name(name) is None


def test_no_spelling_stands_for_two_modules():
    modules = [name.removesuffix(".weight") for name in wan_shapes(I2V) if not name.endswith(".bias")]
    found = spellings(modules)
    assert set(found.values()) == set(modules)
    spelled = {(spelling, module) for spelling, module in found.items() if found.get(module) != module}
    assert not spelled
    # own name and diffusers', with dots and with underscores; patch_embedding and norms are spelled alike
    assert len(found) > 3 * len(modules)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("blocks.3.attn1.to_out.0", "blocks.3.self_attn.o"),
        ("blocks_11_attn2_to_k", "blocks.11.cross_attn.k"),
        ("blocks.1.ffn.net.0.proj", "blocks.1.ffn.0"),
        ("blocks.1.norm2", "blocks.1.norm3"),
        ("condition_embedder.time_proj", "time_projection.1"),
        ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
        ("proj_out", "head.head"),
        ("scale_shift_table", "head.modulation"),
        ("blocks.0.scale_shift_table", "blocks.0.modulation"),
    ],
)
def test_diffusers_modules(theirs, ours):
    modules = [name.removesuffix(".weight") for name in wan_shapes(I2V)]
    assert spellings(modules)[theirs] == ours


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight", "Flux"),
        ("lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight", "Stable Diffusion or SDXL"),
        ("transformer.transformer_blocks.0.attn.to_q.lora_A.weight", "LTX"),
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_up.weight", "text encoder"),
        ("diffusion_model.layers.0.attention.qkv.lora_A.weight", "Lumina"),
        ("blocks.99.mystery.lora_A.weight", "blocks"),
        ("mystery.lora_A.weight", "another kind"),
    ],
)
def test_a_file_for_another_model_is_recognised(name, words):
    assert words in family([name])
