"""The UMT5 encoder against the stock loader's modules, the stock CLIPTextEncode, and weights on parts of a prompt."""

from dataclasses import dataclass
from types import SimpleNamespace

import comfy.model_management
import comfy.sd
import comfy.text_encoders.wan
import pytest
import safetensors.torch
import torch
from comfy.quant_ops import QuantizedTensor
from comfy.supported_models_base import ClipTarget

from wan_gguf.host import text_encoder
from wan_gguf.host.text_encoder import encode_prompt, load_text_encoder
from wan_gguf.loaders.identify import WrongModelError
from wan_gguf.loaders.umt5 import UMT5Checkpoint, load_umt5

ENGLISH, CHINESE = "a red circle moves left", "红色的圆形向左移动，在白色背景上"


@dataclass
class Span:
    text: str
    weight: float = 1.0


def stock_clip(umt5_file):
    """The same encoder, dequantised, in the host's own CLIP and layers, as Load CLIP builds them for UMT5-XXL.

    Its file detection is left out: it knows UMT5 by the width of XXL.
    """
    _, dense, config = umt5_file
    target = ClipTarget(comfy.text_encoders.wan.WanT5Tokenizer, comfy.text_encoders.wan.te(dtype_t5=torch.float32))
    weights = {name: value.clone() for name, value in dense.items()}
    tokenizer = {"spiece_model": weights.pop("spiece_model")}
    return comfy.sd.CLIP(
        target, tokenizer_data=tokenizer, state_dict=[weights], model_options={"umt5xxl_model_config": config}
    )


def stock_encode(clip, text):
    """What the stock CLIPTextEncode node does."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


@pytest.mark.parametrize("text", [ENGLISH, CHINESE, ""])
def test_equals_the_stock_loader(umt5_file, text):
    ours = stock_encode(load_text_encoder(umt5_file[0]), text)[0][0]
    theirs = stock_encode(stock_clip(umt5_file), text)[0][0]
    assert ours.shape == theirs.shape == (1, 512, 64)
    assert theirs.abs().max() > 0.1
    assert (ours - theirs).abs().max() < 1e-5


@pytest.mark.parametrize("text", [ENGLISH, CHINESE, "", " two  spaces ", "unknown 🙂 é"])
def test_weights_of_one_equal_stock_clip_text_encode_bit_for_bit(umt5_file, text):
    clip = load_text_encoder(umt5_file[0])
    (ours, extra), (theirs, stock_extra) = encode_prompt(clip, [Span(text)])[0], stock_encode(clip, text)[0]
    assert torch.equal(ours, theirs)
    assert extra == stock_extra


def test_the_token_table_and_all_matmul_weights_stay_packed(umt5_file):
    transformer = load_text_encoder(umt5_file[0]).cond_stage_model.umt5xxl.transformer
    kinds = {name: type(param) is QuantizedTensor for name, param in transformer.named_parameters()}
    dense = ("layer_norm.weight", "relative_attention_bias.weight")
    assert kinds == {name: not name.endswith(dense) for name in kinds}
    assert kinds["shared.weight"]
    assert {param.dtype for name, param in transformer.named_parameters() if not kinds[name]} == {torch.float32}


def test_a_safetensors_file_gives_the_same(umt5_file, tmp_path):
    path = tmp_path / "encoder.safetensors"
    safetensors.torch.save_file(umt5_file[1], path)
    ours, theirs = (encode_prompt(load_text_encoder(file), [Span(ENGLISH)])[0][0] for file in (path, umt5_file[0]))
    assert torch.equal(ours, theirs)


def test_a_stock_clip_works_too(umt5_file):
    clip = stock_clip(umt5_file)
    assert torch.equal(encode_prompt(clip, [Span(ENGLISH)])[0][0], stock_encode(clip, ENGLISH)[0][0])


def test_another_text_encoder_is_refused():
    other = SimpleNamespace(tokenizer=SimpleNamespace())
    with pytest.raises(ValueError, match=r"clip: the text encoder connected .* 'Wan GGUF Text Encoder Loader'"):
        encode_prompt(other, [Span("x")])


def test_weights_follow_the_hosts_formula(umt5_file):
    """z_empty + weight * (z - z_empty) at the positions of the weighted part, and nowhere else."""
    clip = load_text_encoder(umt5_file[0])
    plain = encode_prompt(clip, [Span(ENGLISH)])[0][0]
    empty = encode_prompt(clip, [Span("")])[0][0]
    weighted = encode_prompt(clip, [Span("a "), Span("red circle", 1.5), Span(" moves left")])[0][0]
    changed = (weighted - plain).abs().amax(-1)[0] > 1e-4
    positions = changed.nonzero().flatten().tolist()
    assert positions
    assert positions == list(range(positions[0], positions[-1] + 1))
    expected = empty[:, changed] + 1.5 * (plain[:, changed] - empty[:, changed])
    assert (weighted[:, changed] - expected).abs().max() < 1e-4  # encoded in a batch of two, as the host does


def test_splitting_a_prompt_into_parts_changes_nothing(umt5_file):
    """The host, tokenising part by part, gives another result for every split."""
    clip = load_text_encoder(umt5_file[0])
    whole = encode_prompt(clip, [Span("red circle 红色的圆形")])[0][0]
    parts = [Span("red cir"), Span("cle 红"), Span("色的圆形")]
    assert torch.equal(encode_prompt(clip, parts)[0][0], whole)


def test_the_encoder_survives_unload_clone_and_fresh_copy(umt5_file):
    clip = load_text_encoder(umt5_file[0])
    first = encode_prompt(clip, [Span(CHINESE)])[0][0]
    comfy.model_management.unload_all_models()
    assert torch.equal(encode_prompt(clip.clone(), [Span(CHINESE)])[0][0], first)
    make, arguments = clip.patcher.cached_patcher_init
    assert type(make(*arguments, disable_dynamic=True)) is type(clip.patcher)


def test_lora_on_the_encoder_and_its_token_table(umt5_file):
    generator = torch.Generator().manual_seed(1)
    size = umt5_file[2]["vocab_size"]
    lora = {}
    layers = {"shared": (size, 64), "encoder.block.0.layer.0.SelfAttention.q": (64, 64)}
    for layer, (n, k) in layers.items():
        lora[f"text_encoders.umt5xxl.transformer.{layer}.lora_up.weight"] = torch.randn(n, 4, generator=generator)
        lora[f"text_encoders.umt5xxl.transformer.{layer}.lora_down.weight"] = (
            torch.randn(4, k, generator=generator) * 0.1
        )
    ours, theirs = load_text_encoder(umt5_file[0]), stock_clip(umt5_file)
    before = stock_encode(ours, ENGLISH)[0][0]
    with_lora = [
        stock_encode(comfy.sd.load_lora_for_models(None, clip, dict(lora), 0, 1.0)[1], ENGLISH)[0][0]
        for clip in (ours, theirs)
    ]
    assert (with_lora[1] - before).abs().max() > 0.1
    assert (with_lora[0] - with_lora[1]).abs().max() < 1e-4
    assert torch.equal(stock_encode(ours, ENGLISH)[0][0], before)


def test_other_position_buckets_are_refused(umt5_file, monkeypatch):
    checkpoint = load_umt5(umt5_file[0])
    other = UMT5Checkpoint(
        checkpoint.path,
        {**checkpoint.config, "relative_attention_num_buckets": 64},
        checkpoint.tensors,
        checkpoint.spiece_model,
    )
    monkeypatch.setattr(text_encoder, "load_umt5", lambda path: other)
    with pytest.raises(ValueError, match="has 64 position buckets; ComfyUI's T5 has 32"):
        load_text_encoder(umt5_file[0])


def test_a_diffusion_model_in_the_encoder_slot_is_refused(wan_file):
    with pytest.raises(WrongModelError, match="Wan"):
        load_text_encoder(wan_file[0])
