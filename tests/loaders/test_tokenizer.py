"""The tokenizer rebuilt from GGUF metadata gives the ids of the sentencepiece model the metadata was made from."""

import io
import struct
import time
from collections.abc import Iterator

import gguf
import numpy as np
import pytest
import sentencepiece

from wan_gguf.loaders.gguf import open_gguf
from wan_gguf.loaders.identify import WrongModelError
from wan_gguf.loaders.tokenizer import MODEL_TYPE_KEY, build_spiece_model
from wan_gguf.tests.loaders.build import array, gguf_bytes, scalar, text

ENGLISH = [
    "a",
    "the",
    "red",
    "blue",
    "green",
    "circle",
    "square",
    "triangle",
    "moves",
    "slowly",
    "left",
    "right",
    "dark",
]
CHINESE = [
    "一个",
    "红色",
    "蓝色",
    "绿色",
    "的",
    "圆形",
    "方块",
    "三角形",
    "缓慢",
    "快速",
    "向左",
    "向右",
    "移动",
    "背景",
]
SENTENCES = [
    "a red circle moves left",
    "一个红色的圆形向左移动",
    "a 红色 circle 向左 moves",
    "（红色：1.2）， “圆形”！？",
    "ＡＢＣ１２３　full-width",
    "cat 🐱 and 👩\u200d🚀",
    "鱻龘 ß ñ й ع \u2581 \x07",
    "  many   spaces  ",
    "red\tcircle\nleft",
    "",
    " ",
    "<unk></s><pad><0x41>",
    "don't stop…",
    "a" * 300,
]


def corpus() -> Iterator[str]:
    rng = np.random.default_rng(0)
    for _ in range(1500):
        yield " ".join(rng.choice(ENGLISH, rng.integers(3, 9)))
        yield "".join(rng.choice(CHINESE, rng.integers(3, 9)))


@pytest.fixture(scope="module", params=["unigram", "bpe", "unigram folding", "unigram no prefix"])
def original(request) -> bytes:
    """A small bilingual model with byte fallback; "folding" adds a charsmap, as models with NFKC normalisation have."""
    kind, _, variant = request.param.partition(" ")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=corpus(),
        model_writer=model,
        model_type=kind,
        vocab_size=430,
        byte_fallback=True,
        normalization_rule_name="nmt_nfkc" if variant == "folding" else "identity",
        add_dummy_prefix=variant != "no prefix",
        remove_extra_whitespaces=variant != "no prefix",
        user_defined_symbols=["👩\u200d🚀"] if kind == "bpe" else [],
        pad_id=0,
        eos_id=1,
        unk_id=3,
        bos_id=2,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of a serialized protobuf message; an oracle independent of the code under test."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < len(message):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
            continue
        length = varint() if tag & 7 == 2 else {1: 8, 5: 4}[tag & 7]
        yield tag >> 3, message[at : at + length]
        at += length


def pieces_of(model: bytes) -> list[tuple[str, float, int]]:
    """(text, score, type) of every piece."""
    found = []
    for number, value in fields(model):
        if number == 1:
            piece = dict(fields(value))
            found.append((piece[1].decode(), struct.unpack("<f", piece[2])[0], piece.get(3, 1)))
    return found


def write_gguf(path, model: bytes, filler: int = 0) -> None:
    """What llama.cpp's converter writes for a T5 tokenizer, and our key where the model is not a unigram model."""
    top = dict(fields(model))
    trainer, normalizer = dict(fields(top[2])), dict(fields(top[3]))
    pieces = pieces_of(model) + [(f"[PAD{i}]", -10000.0, 5) for i in range(filler)]
    writer = gguf.GGUFWriter(path, "t5encoder")
    writer.add_tokenizer_model("t5")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([piece[0].encode() for piece in pieces])
    writer.add_token_scores([piece[1] for piece in pieces])
    writer.add_token_types([piece[2] for piece in pieces])
    writer.add_add_space_prefix(bool(normalizer.get(3, 1)))
    writer.add_remove_extra_whitespaces(bool(normalizer.get(4, 1)))
    if normalizer.get(2):
        writer.add_precompiled_charsmap(normalizer[2])
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(0)
    if trainer.get(3, 1) != 1:
        writer.add_uint32(MODEL_TYPE_KEY, trainer[3])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def load(model: bytes) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=model)


@pytest.mark.parametrize("filler", [0, 7])
def test_ids_are_the_original_s(original, tmp_path, filler):
    """Filler tokens, as llama.cpp adds to reach the embedding's size, change nothing."""
    write_gguf(tmp_path / "t5.gguf", original, filler)
    file = open_gguf(tmp_path / "t5.gguf")
    expected, found = load(original), load(build_spiece_model(file.metadata, "t5.gguf"))
    assert found.get_piece_size() == expected.get_piece_size() + filler
    for sentence in SENTENCES + list(corpus())[:200]:
        assert found.encode(sentence) == expected.encode(sentence), sentence
    assert any(expected.is_byte(i) for i in expected.encode(SENTENCES[6]))  # byte fallback was exercised
    assert (found.unk_id(), found.eos_id(), found.pad_id()) == (3, 1, 0)


def test_pieces_scores_and_types_are_copied(original, tmp_path):
    write_gguf(tmp_path / "t5.gguf", original)
    rebuilt = build_spiece_model(open_gguf(tmp_path / "t5.gguf").metadata, "t5.gguf")
    assert pieces_of(rebuilt) == pieces_of(original)


PIECES = ["<pad>", "</s>", "<unk>", "\u2581", "a", "b"]
GOOD = {
    "tokenizer.ggml.model": text("t5"),
    "tokenizer.ggml.tokens": array("str", PIECES),
    "tokenizer.ggml.scores": array("f32", [0, 0, 0, -1, -2, -3]),
    "tokenizer.ggml.token_type": array("i32", [3, 3, 2, 1, 1, 1]),
}
BAD = {
    "no tokens": ({"tokenizer.ggml.tokens": None}, "has no tokenizer"),
    "no scores": ({"tokenizer.ggml.scores": None}, "must be arrays of strings, floats and integers"),
    "no types": ({"tokenizer.ggml.token_type": None}, "must be arrays of strings, floats and integers"),
    "scores are strings": ({"tokenizer.ggml.scores": array("str", PIECES)}, "must be arrays of strings"),
    "tokens are numbers": ({"tokenizer.ggml.tokens": array("i32", [1])}, "must be arrays of strings"),
    "short scores": ({"tokenizer.ggml.scores": array("f32", [0.0])}, r"have \(6, 1, 6\) items"),
    "a type that is not": ({"tokenizer.ggml.token_type": array("i32", [3, 3, 2, 1, 1, 9])}, "token_type 9 .* 1 to 6"),
    "two unknowns": ({"tokenizer.ggml.token_type": array("i32", [3, 2, 2, 1, 1, 1])}, "has 2 unknown tokens"),
    "no unknown": ({"tokenizer.ggml.token_type": array("i32", [3, 3, 3, 1, 1, 1])}, "has 0 unknown tokens"),
    "another tokenizer": ({"tokenizer.ggml.model": text("gpt2")}, r"tokenizer.ggml.model is 'gpt2'.*t5 \(unigram\)"),
    "model type 4": ({MODEL_TYPE_KEY: scalar("u32", 4)}, "wan_gguf.tokenizer.model_type: 4"),
    "duplicate token": ({"tokenizer.ggml.tokens": array("str", ["a"] * 6)}, "token 'a' occurs twice"),
    "empty token": ({"tokenizer.ggml.tokens": array("str", [*PIECES[:5], ""])}, "token 5 is empty"),
    "nan score": ({"tokenizer.ggml.scores": array("f32", [0, 0, 0, -1, -2, float("nan")])}, "scores .* finite"),
    "charsmap of text": ({"tokenizer.ggml.precompiled_charsmap": text("x")}, "precompiled_charsmap is not an array"),
}


def metadata_of(tmp_path, changes):
    keys = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    (tmp_path / "t5.gguf").write_bytes(gguf_bytes({}, keys))
    return open_gguf(tmp_path / "t5.gguf").metadata


@pytest.mark.parametrize("case", BAD)
def test_metadata_that_does_not_suffice_is_named(case, tmp_path):
    changes, message = BAD[case]
    with pytest.raises(WrongModelError, match=message) as caught:
        build_spiece_model(metadata_of(tmp_path, changes), "t5.gguf")
    assert str(caught.value).startswith("t5.gguf: ")


def test_unknown_token_named_by_id_only(tmp_path):
    changes = {
        "tokenizer.ggml.token_type": array("i32", [3, 3, 3, 1, 1, 1]),
        "tokenizer.ggml.unknown_token_id": scalar("u32", 2),
    }
    assert load(build_spiece_model(metadata_of(tmp_path, changes), "t5.gguf")).unk_id() == 2


def test_llama_s_tokenizer_is_bpe(tmp_path):
    model = build_spiece_model(metadata_of(tmp_path, {"tokenizer.ggml.model": text("llama")}), "t5.gguf")
    assert dict(fields(dict(fields(model))[2]))[3] == 2


def test_a_full_vocabulary_is_rebuilt_quickly(tmp_path):
    """256,384 tokens, measured at 0.5 s; the bound allows for a machine that does something else."""
    count = 256_384
    types = np.ones(count, "<i4")
    types[2] = 2
    changes = {
        "tokenizer.ggml.tokens": array("str", [f"\u2581红{i}" for i in range(count)]),
        "tokenizer.ggml.scores": struct.pack("<IIQ", 9, 6, count) + np.zeros(count, "<f4").tobytes(),
        "tokenizer.ggml.token_type": struct.pack("<IIQ", 9, 5, count) + types.tobytes(),
    }
    metadata = metadata_of(tmp_path, changes)
    start = time.process_time()
    model = build_spiece_model(metadata, "t5.gguf")
    assert time.process_time() - start < 10
    assert len(pieces_of(model)) == count
