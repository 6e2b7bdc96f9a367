"""A sentencepiece model as the tokenizer.ggml.* keys of a GGUF, as llama.cpp's converter writes them for T5.

The serialized ModelProto is read by hand, as `loaders/tokenizer.py` writes it; field numbers are there.
"""

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from .errors import ConvertError

_UNIGRAM = 1
_UNKNOWN, _UNUSED = 2, 5  # token types
_FILLER_SCORE = -10000.0
_MAX_PIECES = 1 << 24


def tokenizer_keys(spiece_model: bytes, vocab_size: int, file_name: str) -> dict[str, Any]:
    """The keys; rows of the embedding beyond the pieces get fillers. Raises ConvertError."""
    try:
        pieces, trainer, normalizer = _model(spiece_model)
    except (ValueError, IndexError):
        raise ConvertError(f"{file_name}: the tokenizer is no sentencepiece model; download it again") from None
    if not pieces or len(pieces) > vocab_size:
        raise ConvertError(
            f"{file_name}: the tokenizer has {len(pieces)} pieces, the embedding {vocab_size} rows; "
            "use the tokenizer of this model"
        )
    if any(not isinstance(trainer.get(i, 0), int) for i in (3, 40, 42, 43)) or isinstance(normalizer.get(2, b""), int):
        raise ConvertError(f"{file_name}: the tokenizer's settings are damaged; download it again")
    if trainer.get(3, _UNIGRAM) != _UNIGRAM:
        raise ConvertError(f"{file_name}: the tokenizer is of type {trainer[3]}; unigram (1), as T5 has, is allowed")
    n_fillers = vocab_size - len(pieces)
    names = [name for name, _, _ in pieces] + [f"[PAD{i}]".encode() for i in range(len(pieces), vocab_size)]
    scores = [score for _, score, _ in pieces] + [_FILLER_SCORE] * n_fillers
    kinds = [kind for _, _, kind in pieces] + [_UNUSED] * n_fillers
    keys: dict[str, Any] = {
        "tokenizer.ggml.model": "t5",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.scores": np.array(scores, "<f4"),
        "tokenizer.ggml.token_type": np.array(kinds, "<i4"),
        "tokenizer.ggml.add_space_prefix": bool(normalizer.get(3, 1)),
        "tokenizer.ggml.remove_extra_whitespaces": bool(normalizer.get(4, 1)),
    }
    if normalizer.get(2):
        keys["tokenizer.ggml.precompiled_charsmap"] = np.frombuffer(normalizer[2], np.uint8)
    ids = {"eos": trainer.get(42, 2), "padding": trainer.get(43, -1), "unknown": _unknown(kinds, trainer)}
    return keys | {f"tokenizer.ggml.{name}_token_id": i for name, i in ids.items() if 0 <= i < vocab_size}


def _unknown(kinds: list[int], trainer: dict[int, Any]) -> int:
    return kinds.index(_UNKNOWN) if _UNKNOWN in kinds else trainer.get(40, 0)


def _model(data: bytes) -> tuple[list[tuple[bytes, float, int]], dict[int, Any], dict[int, Any]]:
    """(piece, score, type) of every piece, and the fields of trainer_spec and normalizer_spec."""
    pieces: list[tuple[bytes, float, int]] = []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            pieces.append(_piece(dict(_fields(value))))
            if len(pieces) > _MAX_PIECES:
                raise ValueError(f"more than {_MAX_PIECES} pieces")
        elif number == 2 and isinstance(value, bytes):
            trainer = {field: _signed(found) for field, found in _fields(value)}
        elif number == 3 and isinstance(value, bytes):
            normalizer = dict(_fields(value))
    return pieces, trainer, normalizer


def _piece(fields: dict[int, int | bytes]) -> tuple[bytes, float, int]:
    """(piece, score, type). Raises ValueError."""
    text, score, kind = fields.get(1), fields.get(2, bytes(4)), fields.get(3, 1)
    if not isinstance(text, bytes) or not isinstance(score, bytes) or len(score) != 4 or not isinstance(kind, int):
        raise ValueError("a piece whose fields are of other types")
    return text, struct.unpack("<f", score)[0], kind


def _signed(value: int | bytes) -> int | bytes:
    return value - (1 << 64) if isinstance(value, int) and value >> 63 else value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of every field of a protobuf message: varints as int, all else as bytes. Raises ValueError."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            length, at = _varint(data, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if length > len(data) - at:
            raise ValueError("a field reaches past the end")
        yield key >> 3, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]  # IndexError at the end is the caller's
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a varint of more than ten bytes")
