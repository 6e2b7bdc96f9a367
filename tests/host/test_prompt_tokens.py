"""Tokens and weights of a prompt in parts, against sentencepiece's own encoding of the joined text."""

from dataclasses import dataclass

import pytest
import sentencepiece

from wan_gguf.host.prompt_tokens import MAX_TOKENS, weighted_tokens

END, PAD = 1, 0


@dataclass
class Span:
    text: str
    weight: float = 1.0


@pytest.fixture(scope="module")
def processor(spiece_model):
    return sentencepiece.SentencePieceProcessor(model_proto=spiece_model, add_eos=True)


def content(tokens):
    """The pairs before the end token."""
    return tokens[: [token for token, _ in tokens].index(END)]


@pytest.mark.parametrize(
    "text", ["a red circle", "红色的圆形，向左移动", "", "  two  spaces ", "🙂é", "mixed 红 text\nnew line", "ß" * 40]
)
def test_ids_are_sentencepieces_own(processor, text):
    tokens = weighted_tokens(processor, [Span(text)], END, PAD)
    ids = processor.encode(text)
    assert [token for token, _ in tokens] == ids + [PAD] * (MAX_TOKENS - len(ids))
    assert {weight for _, weight in tokens} == {1.0}


def covered(processor, spans):
    """[(surface of the token, weight)] for tokens that stand for text."""
    tokens = content(weighted_tokens(processor, spans, END, PAD))
    return [(processor.id_to_piece(token), weight) for token, weight in tokens]


def test_a_word_takes_its_own_weight_and_not_that_of_the_space_before(processor):
    found = covered(processor, [Span("a "), Span("red", 1.5), Span(" circle")])
    assert "".join(piece for piece, _ in found) == "▁a▁red▁circle"
    text, weights = "", []
    for piece, weight in found:
        text += piece
        weights += [weight] * len(piece)
    start = text.index("red")
    assert weights[start : start + 3] == [1.5] * 3
    assert set(weights[: start - 1] + weights[start + 3 :]) == {1.0}


def test_chinese_parts(processor):
    found = covered(processor, [Span("红色的", 1.2), Span("，"), Span("圆形", 0.8)])
    assert [weight for piece, weight in found if "红" in piece] == [1.2]
    assert [weight for piece, weight in found if "圆" in piece] == [0.8]


def test_a_token_across_two_parts_takes_the_mean_over_its_characters(processor):
    assert covered(processor, [Span("circle")]) == [("▁circle", 1.0)]
    assert covered(processor, [Span("cir", 2.0), Span("cle", 1.0)]) == [("▁circle", 1.5)]
    assert covered(processor, [Span("c", 2.0), Span("ircle", 1.0)]) == [("▁circle", pytest.approx(7 / 6))]


def test_byte_pieces_take_the_weight_of_their_character(processor):
    found = covered(processor, [Span("a "), Span("🙂", 1.3), Span(" b")])
    assert [weight for piece, weight in found if piece.startswith("<0x")] == [1.3] * 4


def test_a_long_prompt_is_cut_with_its_end_token_kept_and_a_warning(processor, caplog):
    text = "red circle " * 600
    ids = processor.encode(text)
    tokens = weighted_tokens(processor, [Span(text, 1.1)], END, PAD)
    assert len(tokens) == MAX_TOKENS
    assert [token for token, _ in tokens] == [*ids[: MAX_TOKENS - 1], END]
    assert (tokens[-2][1], tokens[-1][1]) == (1.1, 1.0)
    assert f"the prompt has {len(ids) - 1} tokens; 511 fit, the last {len(ids) - 1 - 511} were cut off" in caplog.text


def test_a_prompt_of_exactly_the_limit_is_not_cut(processor, caplog):
    word = next(w for w in ("a", "b", "c") if len(processor.encode(f"{w} {w}")) == 3)
    tokens = weighted_tokens(processor, [Span(" ".join([word] * 511))], END, PAD)
    assert tokens[-1] == (END, 1.0)
    assert PAD not in [token for token, _ in tokens]
    assert not caplog.records
