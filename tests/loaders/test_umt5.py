"""load_umt5: GGUF in both namings, safetensors, settings from shapes, wrong files."""

import pytest
import torch

from wan_gguf.loaders.gguf import GGUFError, open_gguf
from wan_gguf.loaders.identify import WrongModelError
from wan_gguf.loaders.safetensors_file import SafetensorsError
from wan_gguf.loaders.umt5 import load_umt5, umt5_config, umt5_shapes
from wan_gguf.ops.dequantize import dequantize_rows
from wan_gguf.tests.loaders.build import gguf_bytes, safetensors_bytes, text
from wan_gguf.tests.loaders.models import (
    TOKENIZER,
    UMT5_BLOCK,
    safetensors_model,
    umt5_shapes_of_t5,
    umt5_tensors,
    wan_tensors,
)

CONFIG = {
    "model_type": "umt5", "vocab_size": 300, "d_model": 256, "d_ff": 512, "d_kv": 64, "num_heads": 4, "num_layers": 2,
    "relative_attention_num_buckets": 32, "dense_act_fn": "gelu_pytorch_tanh", "is_gated_act": True,
    "layer_norm_epsilon": 1e-6,
}  # fmt: skip


@pytest.fixture
def load(tmp_path):
    """A function that writes {name: (type, shape)} as `umt5.gguf` and loads it."""

    def write_and_load(tensors, metadata=TOKENIZER):
        path = tmp_path / "umt5.gguf"
        path.write_bytes(gguf_bytes(tensors, metadata))
        return load_umt5(path)

    return write_and_load


@pytest.mark.parametrize("llama_names", [True, False])
@pytest.mark.parametrize("quantised", ["Q8_0", "F16", "Q6_K"])
def test_both_namings(load, llama_names, quantised):
    loaded = load(umt5_tensors(llama_names=llama_names, quantised=quantised))
    assert loaded.config == CONFIG
    assert {name: packed.shape for name, packed in loaded.tensors.items()} == umt5_shapes_of_t5()
    assert loaded.spiece_model.count(b"p296") == 1


def test_llama_names_lead_to_the_right_tensors(load):
    loaded = load(umt5_tensors())
    with open_gguf(loaded.path) as file:
        pairs = {f"encoder.block.1.{t5}.weight": f"enc.blk.1.{llama}.weight" for llama, t5, *_ in UMT5_BLOCK}
        pairs |= {
            "shared.weight": "token_embd.weight",
            "encoder.final_layer_norm.weight": "enc.output_norm.weight",
        }
        for t5, llama in pairs.items():
            assert torch.equal(loaded.tensors[t5].data, file.packed(llama).data), t5


def test_umt5_xxl_s_settings():
    tensors = umt5_tensors(4096, 10240, 64, 64, 24, 256384, llama_names=False)
    shapes = {name: shape for name, (_, shape) in tensors.items()}
    assert len(shapes) == 242
    config = umt5_config(shapes, "x")
    sizes = {"vocab_size": 256384, "d_model": 4096, "d_ff": 10240, "num_heads": 64, "num_layers": 24}
    assert config == CONFIG | sizes
    assert umt5_shapes(config) == shapes


def test_decoder_tensors_are_ignored(load):
    """Files of architecture "t5" hold the whole model."""
    decoder = {"dec.blk.0.attn_q.weight": ("Q8_0", (256, 256)), "output.weight": ("Q8_0", (300, 256))}
    loaded = load({**umt5_tensors(), **decoder}, TOKENIZER | {"general.architecture": text("t5")})
    assert set(loaded.tensors) == set(umt5_shapes_of_t5())


def test_relative_bias_of_either_type(load):
    tensors = umt5_tensors()
    for i in range(2):
        tensors[f"enc.blk.{i}.attn_rel_b.weight"] = ("F16", (32, 4))
    assert load(tensors).config == CONFIG


def test_rows_of_the_embedding_can_be_gathered(load):
    embedding = load(umt5_tensors(quantised="Q6_K")).tensors["shared.weight"]
    assert dequantize_rows(embedding, torch.tensor([[0, 299, 7]])).shape == (1, 3, 256)


def without(tensors, *names):
    return {name: value for name, value in tensors.items() if name not in names}


WRONG = {
    "wan": (wan_tensors(), "is a Wan transformer; load it with the Wan GGUF model loader"),
    "t5": (without(umt5_tensors(), "enc.blk.1.attn_rel_b.weight"), "is a T5 text encoder, not UMT5"),
    "missing": (
        without(umt5_tensors(), "enc.blk.1.ffn_up.weight"),
        "1 of 22 tensors .*1.DenseReluDense.wi_1",
    ),
    "no embedding": (without(umt5_tensors(), "token_embd.weight"), "a UMT5 tensor is missing or misshapen"),
    "extra": ({**umt5_tensors(), "enc.blk.0.new.weight": ("F32", (4,))}, "1 tensors do not belong to a UMT5 encoder"),
    "misshapen": (
        {**umt5_tensors(), "enc.blk.1.ffn_up.weight": ("F16", (512, 128))},
        r"\(512, 128\); \(512, 256\)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_says_what_it_is(case, load):
    tensors, message = WRONG[case]
    with pytest.raises(WrongModelError, match=message):
        load(tensors)


def test_no_tokenizer(load):
    with pytest.raises(WrongModelError, match=r"umt5.gguf: has no tokenizer \(tokenizer.ggml.tokens is missing\)"):
        load(umt5_tensors(), {"general.architecture": text("t5encoder")})


def test_more_tokens_than_embedding_rows(load):
    tensors = {**umt5_tensors(), "token_embd.weight": ("F16", (299, 256))}
    with pytest.raises(WrongModelError, match="300 tokens; the embedding has 299 rows"):
        load(tensors)


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_safetensors(tmp_path, dtype):
    tensors = safetensors_model(dtype)
    (tmp_path / "umt5.safetensors").write_bytes(safetensors_bytes(tensors))
    loaded = load_umt5(tmp_path / "umt5.safetensors")
    assert (loaded.config, loaded.spiece_model) == (CONFIG, b"model bytes")
    for name, packed in loaded.tensors.items():
        assert packed.format.name == dtype
        assert packed.data.numpy().tobytes() == tensors[name][2]


def test_embedding_under_the_encoder_s_name(tmp_path):
    """Files saved from transformers' encoder class may hold it twice or only so."""
    tensors = safetensors_model()
    tensors["encoder.embed_tokens.weight"] = tensors["shared.weight"]
    (tmp_path / "twice.safetensors").write_bytes(safetensors_bytes(tensors))
    assert load_umt5(tmp_path / "twice.safetensors").config == CONFIG
    del tensors["shared.weight"]
    (tmp_path / "once.safetensors").write_bytes(safetensors_bytes(tensors))
    assert load_umt5(tmp_path / "once.safetensors").tensors["shared.weight"].shape == (300, 256)


def test_safetensors_without_tokenizer(tmp_path):
    (tmp_path / "umt5.safetensors").write_bytes(safetensors_bytes(safetensors_model(spiece=None)))
    with pytest.raises(WrongModelError, match=r"umt5.safetensors: has no tokenizer \(tensor spiece_model is missing\)"):
        load_umt5(tmp_path / "umt5.safetensors")


def test_safetensors_of_8_bit_floats(tmp_path):
    tensors = safetensors_model()
    name, shape = "encoder.block.0.layer.0.SelfAttention.q.weight", (256, 256)
    tensors[name] = ("F8_E4M3", shape, bytes(256 * 256))
    (tmp_path / "fp8.safetensors").write_bytes(safetensors_bytes(tensors))
    with pytest.raises(SafetensorsError, match=f"fp8.safetensors: tensor {name}: dtype F8_E4M3; F32, F16 and BF16"):
        load_umt5(tmp_path / "fp8.safetensors")


def test_scaled_safetensors_of_8_bit_floats(tmp_path):
    """The popular fp8 file adds scale tensors; the message must be about fp8, not about unknown tensors."""
    tensors = safetensors_model() | {"scaled_fp8": ("F8_E4M3", (2,), b"ab")}
    (tmp_path / "fp8.safetensors").write_bytes(safetensors_bytes(tensors))
    with pytest.raises(SafetensorsError, match="tensor scaled_fp8: dtype F8_E4M3; F32, F16 and BF16 are allowed"):
        load_umt5(tmp_path / "fp8.safetensors")


def test_a_file_of_another_kind(tmp_path):
    (tmp_path / "umt5.pth").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(GGUFError, match="is a pickle"):
        load_umt5(tmp_path / "umt5.pth")
