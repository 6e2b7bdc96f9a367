"""The CLIP that is built at its first use: the host's for every other node; what nodes change on it is seen."""

from dataclasses import dataclass

import comfy.sd
import pytest
import torch

from wan_gguf.host import cached_encoding
from wan_gguf.host.cached_encoding import encode_cached
from wan_gguf.host.embedding_cache import cache_folder
from wan_gguf.host.text_encoder import load_text_encoder, open_text_encoder

ENGLISH = "a red circle moves left"


@dataclass
class Span:
    text: str
    weight: float = 1.0


def state(clip) -> str:
    return encode_cached(clip, [Span(ENGLISH)], "positive")[1]


def bits(conditioning: list) -> torch.Tensor:
    return conditioning[0][0].view(torch.int32)


@pytest.mark.parametrize("change", ["lora", "clip skip", "clone", "stock", "set before use"])
def test_an_encoder_that_is_not_as_loaded_is_not_cached(umt5_file, change):
    text_encoder_lora = {
        "text_encoders.umt5xxl.transformer.encoder.block.0.layer.0.SelfAttention.q.lora_up.weight": torch.ones(64, 4),
        "text_encoders.umt5xxl.transformer.encoder.block.0.layer.0.SelfAttention.q.lora_down.weight": torch.ones(4, 64),
    }
    clip = open_text_encoder(umt5_file[0])
    if change == "lora":
        clip = comfy.sd.load_lora_for_models(None, clip, text_encoder_lora, 0, 1.0)[1]
    elif change == "stock":
        clip = load_text_encoder(umt5_file[0])
    elif change == "set before use":
        clip.clip_layer(-2)
    else:
        clip = clip.clone()
        if change == "clip skip":
            clip.clip_layer(-2)
    assert state(clip) == f"not cached: {cached_encoding.FOREIGN_OR_CHANGED}"
    assert not cache_folder().exists()


def test_a_lora_put_on_the_loaded_encoder_itself_is_seen(umt5_file):
    clip = open_text_encoder(umt5_file[0])
    assert state(clip) == "miss"
    clip.patcher.add_patches({"umt5xxl.transformer.encoder.final_layer_norm.weight": ("diff", (torch.ones(64),))})
    assert state(clip).startswith("not cached")


def test_the_lazy_clip_is_the_hosts_for_other_nodes(umt5_file):
    lazy, eager = open_text_encoder(umt5_file[0]), load_text_encoder(umt5_file[0])
    assert isinstance(lazy, comfy.sd.CLIP)
    assert lazy.is_dynamic()  # holds nothing, and this does not build it
    assert "patcher" not in vars(lazy)
    stock = [clip.encode_from_tokens_scheduled(clip.tokenize(ENGLISH)) for clip in (lazy, eager)]
    assert torch.equal(bits(stock[0]), bits(stock[1]))
    assert type(lazy.patcher) is type(eager.patcher)
    assert lazy.is_dynamic() == eager.is_dynamic()
    assert vars(eager).keys() <= vars(lazy).keys()
    with pytest.raises(AttributeError, match="LazyCLIP has no attribute 'no_such_part'"):
        _ = lazy.no_such_part


def test_clip_skip_set_before_the_encoder_is_built_holds(umt5_file):
    lazy, eager = open_text_encoder(umt5_file[0]), load_text_encoder(umt5_file[0])
    lazy.clip_layer(-2)
    eager.clip_layer(-2)
    stock = [clip.encode_from_tokens_scheduled(clip.tokenize(ENGLISH)) for clip in (lazy, eager)]
    assert torch.equal(bits(stock[0]), bits(stock[1]))
