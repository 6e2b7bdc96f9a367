"""A weighted prompt as tokens of one text: tokenised once, each token weighted by the characters it covers.

The host tokenises weighted parts one by one, which puts an extra word start before each and splits words differently.
Here the parts are joined first. sentencepiece reports for each piece which bytes of the text it stands for:

    SentencePieceText   1 text   2 pieces {1 piece, 2 id, 3 surface, 4 begin, 5 end}   (begin and end in UTF-8 bytes)

The message is read by hand: the Python spelling of offsets differs between sentencepiece versions, this does not.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

MAX_TOKENS = 512  # the length Wan was trained with, the end token included


class Span(Protocol):
    """A part of a prompt, for example a `text.weights.WeightedSpan`."""

    text: str
    weight: float


def weighted_tokens(processor: Any, spans: Sequence[Span], end_token: int, pad_token: int) -> list[tuple[int, float]]:
    """Spans -> exactly MAX_TOKENS pairs (token id, weight): the text, the end token, padding.

    `processor` is a sentencepiece processor. Text beyond MAX_TOKENS - 1 tokens is cut off, with a warning in the log.
    """
    text = "".join(span.text for span in spans)
    weights = _byte_weights(spans)
    encoded = processor.encode(text, out_type="serialized_proto", add_bos=False, add_eos=False)
    tokens = [
        (token, _mean(weights[begin:end] or weights[begin : begin + 1])) for token, begin, end in _pieces(encoded)
    ]
    room = MAX_TOKENS - 1
    if len(tokens) > room:
        logging.warning(
            "Wan GGUF: the prompt has %d tokens; %d fit, the last %d were cut off",
            len(tokens),
            room,
            len(tokens) - room,
        )
        tokens = tokens[:room]
    tokens.append((end_token, 1.0))
    return tokens + [(pad_token, 1.0)] * (MAX_TOKENS - len(tokens))


def _byte_weights(spans: Sequence[Span]) -> list[float | None]:
    """The weight of every UTF-8 byte; None for spaces, which say nothing about the word they stand before."""
    weights: list[float | None] = []
    for span in spans:
        for character in span.text:
            weight = None if character.isspace() else float(span.weight)
            weights += [weight] * len(character.encode())
    return weights


def _mean(weights: Sequence[float | None]) -> float:
    """Mean over a token's bytes: a token across two parts stands between their weights. 1.0 for a token of spaces."""
    found = [weight for weight in weights if weight is not None]
    if not found or min(found) == max(found):
        return found[0] if found else 1.0
    return sum(found) / len(found)


def _pieces(message: bytes) -> Iterator[tuple[int, int, int]]:
    """(token id, begin, end) of every piece of a serialized SentencePieceText."""
    for number, piece in _fields(message):
        if number == 2:
            fields = dict(_fields(piece))
            yield fields.get(2, 0), fields.get(4, 0), fields.get(5, 0)


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, value) of a protobuf message: int for varints, bytes for everything else."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
        else:
            size, at = (4 if kind == 5 else 8, at) if kind in (1, 5) else _varint(message, at)
            value, at = message[at : at + size], at + size
        yield key >> 3, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
