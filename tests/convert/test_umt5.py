"""UMT5 encoders: names, tokenizer and metadata of what comes out load as the encoder that went in."""

import io

import numpy as np
import pytest
import sentencepiece
import torch

from wan_gguf.convert.errors import ConvertError
from wan_gguf.convert.plan import plan_gguf, plan_safetensors
from wan_gguf.convert.run import convert
from wan_gguf.convert.source import open_source
from wan_gguf.convert.spiece import tokenizer_keys
from wan_gguf.loaders.gguf import open_gguf
from wan_gguf.loaders.tokenizer import build_spiece_model
from wan_gguf.loaders.umt5 import load_umt5
from wan_gguf.ops.dequantize import dequantize
from wan_gguf.tests.convert.build import decoded, entry
from wan_gguf.tests.loaders.build import safetensors_bytes
from wan_gguf.tests.loaders.models import shapes_of, umt5_tensors

VOCABULARY = 448
TEXTS = ["a red circle moves left", "红色的圆形向左移动", "  two  spaces，全角！ ", "emoji 🙂 byte fallback"]


@pytest.fixture(scope="module")
def spiece_model() -> bytes:
    """A small sentencepiece model with byte fallback."""
    rng = np.random.default_rng(9)
    words = ["a", "red", "blue", "circle", "square", "moves", "left", "right", "红色的", "圆形", "向左移动", "背景"]
    lines = [" ".join(rng.choice(words, 8)) for _ in range(500)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=340, model_type="unigram", byte_fallback=True,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, normalization_rule_name="identity", hard_vocab_limit=False,
        minloglevel=2,
    )  # fmt: skip
    return model.getvalue()


@pytest.fixture(scope="module")
def values() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = shapes_of(umt5_tensors(vocab=VOCABULARY, llama_names=False))
    return {name: torch.randn(shape, generator=generator) * 0.05 for name, shape in shapes.items()}


def write(path, values, spiece_model=None):
    stored = {name: entry(value, "BF16") for name, value in values.items()}
    if spiece_model is not None:
        stored["spiece_model"] = ("U8", (len(spiece_model),), spiece_model)
    path.write_bytes(safetensors_bytes(stored))
    return path


def ids(model: bytes) -> list[list[int]]:
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [processor.encode(text) for text in TEXTS]


def test_the_gguf_is_the_encoder_and_its_tokenizer(tmp_path, values, spiece_model):
    source = open_source(write(tmp_path / "umt5.safetensors", values, spiece_model))
    convert(source, plan_gguf(source, "Q8_0"), tmp_path / "umt5.gguf")
    file = open_gguf(tmp_path / "umt5.gguf")
    assert file.metadata["general.architecture"] == "t5encoder"
    assert {name: info.shape for name, info in file.tensors.items()} == shapes_of(umt5_tensors(vocab=VOCABULARY))
    loaded = load_umt5(tmp_path / "umt5.gguf")
    assert loaded.config == source.config
    assert ids(loaded.spiece_model) == ids(spiece_model)
    for name, packed in loaded.tensors.items():
        exact = values[name].bfloat16().float()
        if packed.format.name == "F32":
            assert torch.equal(dequantize(packed), exact)
        else:
            assert (dequantize(packed) - exact).abs().max() <= exact.abs().max() * (0.5 / 127 + 2**-11)


def test_rows_without_a_piece_get_fillers(spiece_model):
    keys = tokenizer_keys(spiece_model, VOCABULARY, "a.safetensors")
    n_pieces = sentencepiece.SentencePieceProcessor(model_proto=spiece_model).get_piece_size()
    assert n_pieces < VOCABULARY
    assert len(keys["tokenizer.ggml.tokens"]) == VOCABULARY
    assert keys["tokenizer.ggml.tokens"][n_pieces] == f"[PAD{n_pieces}]".encode()
    assert keys["tokenizer.ggml.scores"][n_pieces:].tolist() == [-10000.0] * (VOCABULARY - n_pieces)
    assert set(keys["tokenizer.ggml.token_type"][n_pieces:].tolist()) == {5}
    assert (keys["tokenizer.ggml.eos_token_id"], keys["tokenizer.ggml.padding_token_id"]) == (1, 0)
    assert keys["tokenizer.ggml.unknown_token_id"] == 2


def test_pieces_scores_and_types_are_sentencepiece_s_own(spiece_model):
    keys = tokenizer_keys(spiece_model, VOCABULARY, "a.safetensors")
    processor = sentencepiece.SentencePieceProcessor(model_proto=spiece_model)
    for i in range(processor.get_piece_size()):
        assert keys["tokenizer.ggml.tokens"][i].decode() == processor.id_to_piece(i)
        assert keys["tokenizer.ggml.scores"][i] == np.float32(processor.get_score(i))
        kind = keys["tokenizer.ggml.token_type"][i]
        assert (kind == 2, kind == 3, kind == 6) == (
            processor.is_unknown(i), processor.is_control(i), processor.is_byte(i),
        )  # fmt: skip


def test_gguf_to_gguf_and_to_safetensors_keep_the_tokenizer(tmp_path, values, spiece_model):
    source = open_source(write(tmp_path / "umt5.safetensors", values, spiece_model))
    convert(source, plan_gguf(source, "F16"), tmp_path / "a.gguf")
    half = open_source(tmp_path / "a.gguf")
    convert(half, plan_gguf(half, "Q5_K_M"), tmp_path / "b.gguf")
    first, second = open_gguf(tmp_path / "a.gguf").metadata, open_gguf(tmp_path / "b.gguf").metadata
    for key in first:
        if key.startswith("tokenizer."):
            assert np.array_equal(first[key], second[key]), key
    convert(half, plan_safetensors(half, "F16"), tmp_path / "c.safetensors")
    assert ids(load_umt5(tmp_path / "c.safetensors").spiece_model) == ids(spiece_model)
    assert {tensor.dtype for tensor in open_source(tmp_path / "c.safetensors").tensors.values()} == {"F16"}


OFFICIAL = {
    "layer.0.layer_norm": "norm1",
    "layer.0.SelfAttention.relative_attention_bias": "pos_embedding.embedding",
    "layer.1.layer_norm": "norm2",
    "layer.1.DenseReluDense.wi_0": "ffn.gate.0",
    "layer.1.DenseReluDense.wi_1": "ffn.fc1",
    "layer.1.DenseReluDense.wo": "ffn.fc2",
    **{f"layer.0.SelfAttention.{leaf}": f"attn.{leaf}" for leaf in "qkvo"},
}


def test_the_official_repository_s_names_with_the_tokenizer_beside(tmp_path, values, spiece_model):
    """wan/modules/t5.py; its gate is what T5 calls wi_0."""
    named = {
        "token_embedding.weight": values["shared.weight"],
        "norm.weight": values["encoder.final_layer_norm.weight"],
    }
    for name, value in values.items():
        if name.startswith("encoder.block."):
            _, _, block, leaf = name.removesuffix(".weight").split(".", 3)
            named[f"blocks.{block}.{OFFICIAL[leaf]}.weight"] = value
    path = write(tmp_path / "models_t5_umt5-xxl-enc-bf16.safetensors", named)
    with pytest.raises(ConvertError, match=r"has no tokenizer; put spiece.model beside it, or name it"):
        plan_gguf(open_source(path), "Q8_0")
    (tmp_path / "spiece.model").write_bytes(spiece_model)
    source = open_source(path)
    assert source.spiece_model == spiece_model
    found = decoded(source)
    assert found.keys() == values.keys()
    for name, numbers in found.items():
        assert np.array_equal(numbers, values[name].bfloat16().float().numpy())


def test_the_tokenizer_of_diffusers_layout_and_a_named_one(tmp_path, values, spiece_model):
    (tmp_path / "text_encoder").mkdir()
    (tmp_path / "tokenizer").mkdir()
    path = write(tmp_path / "text_encoder" / "model.safetensors", values)
    (tmp_path / "named.model").write_bytes(spiece_model)
    assert open_source(path, tmp_path / "named.model").spiece_model == spiece_model
    (tmp_path / "tokenizer" / "spiece.model").write_bytes(spiece_model)
    assert open_source(tmp_path / "text_encoder").spiece_model == spiece_model


@pytest.mark.parametrize("cut", [1, 7, 100])
def test_damaged_tokenizers(spiece_model, cut):
    with pytest.raises(ConvertError, match="the tokenizer is no sentencepiece model"):
        tokenizer_keys(spiece_model[:-cut] + b"\xff" * 12, VOCABULARY, "a.safetensors")


def test_changed_bytes_of_a_tokenizer_are_refused_or_read(spiece_model):
    """Nothing but a ConvertError comes out, whatever is in it."""
    rng = np.random.default_rng(0)
    n_refused = 0
    for _ in range(300):
        changed = bytearray(spiece_model[: rng.integers(1, len(spiece_model) + 1)])
        for at in rng.integers(0, len(changed), 4):
            changed[at] = rng.integers(0, 256)
        try:
            keys = tokenizer_keys(bytes(changed), VOCABULARY, "a.safetensors")
        except ConvertError:
            n_refused += 1
        else:
            assert len(keys["tokenizer.ggml.tokens"]) == VOCABULARY
    assert 50 < n_refused < 300


def test_a_tokenizer_larger_than_the_embedding_is_refused(spiece_model):
    with pytest.raises(ConvertError, match=r"the tokenizer has \d+ pieces, the embedding 300 rows"):
        tokenizer_keys(spiece_model, 300, "a.safetensors")


def test_a_tokenizer_written_by_the_loader_is_read_back(tmp_path, values, spiece_model):
    source = open_source(write(tmp_path / "umt5.safetensors", values, spiece_model))
    convert(source, plan_gguf(source, "Q4_0", plain=True), tmp_path / "umt5.gguf")
    metadata = open_gguf(tmp_path / "umt5.gguf").metadata
    again = tokenizer_keys(build_spiece_model(metadata, "umt5.gguf"), VOCABULARY, "umt5.gguf")
    assert [token.decode() for token in again["tokenizer.ggml.tokens"]] == list(metadata["tokenizer.ggml.tokens"])
    assert np.array_equal(again["tokenizer.ggml.scores"], metadata["tokenizer.ggml.scores"])
    assert np.array_equal(again["tokenizer.ggml.token_type"], metadata["tokenizer.ggml.token_type"])
