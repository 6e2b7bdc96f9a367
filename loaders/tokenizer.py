"""A sentencepiece model rebuilt from a GGUF file's tokenizer.ggml.* metadata.

The serialized ModelProto is written by hand (four small messages), so protobuf is not needed. Field numbers:
sentencepiece's src/sentencepiece_model.proto.

    ModelProto      1 pieces {1 piece, 2 score, 3 type}   2 trainer_spec   3 normalizer_spec
    TrainerSpec     3 model_type  4 vocab_size  35 byte_fallback  40 unk_id  41 bos_id  42 eos_id  43 pad_id
    NormalizerSpec  1 name  2 precompiled_charsmap  3 add_dummy_prefix  4 remove_extra_whitespaces

GGUF has no field for the sentencepiece model type. llama.cpp's tokenizer "t5" means unigram and "llama" means BPE; the
optional key `wan_gguf.tokenizer.model_type` (u32, 1 unigram, 2 BPE) overrides this.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .gguf import StringArray
from .identify import WrongModelError

UNIGRAM, BPE = 1, 2
UNKNOWN, BYTE = 2, 6  # sentencepiece piece types
MODEL_TYPE_KEY = "wan_gguf.tokenizer.model_type"
_MODEL_TYPES = {"t5": UNIGRAM, "llama": BPE}
_SPECIAL_IDS = ((41, "bos"), (42, "eos"), (43, "padding"))


def build_spiece_model(metadata: Mapping[str, Any], file_name: str) -> bytes:
    """Serialized ModelProto with the ids of the file. Raises WrongModelError when something is missing."""
    tokens, scores, types = _vocabulary(metadata, file_name)
    unknown_id = _unknown_id(metadata, types, file_name)
    types[unknown_id] = UNKNOWN
    trainer = _varint_field(3, _model_type(metadata, file_name)) + _varint_field(4, len(tokens))
    trainer += _varint_field(35, int((types == BYTE).any())) + _varint_field(40, unknown_id)
    for number, name in _SPECIAL_IDS:
        trainer += _varint_field(number, _token_id(metadata, f"tokenizer.ggml.{name}_token_id", len(tokens)))
    normalizer = _normalizer_rules(metadata, file_name)
    normalizer += _varint_field(3, int(metadata.get("tokenizer.ggml.add_space_prefix", True)))
    normalizer += _varint_field(4, int(metadata.get("tokenizer.ggml.remove_extra_whitespaces", True)))
    return _pieces(tokens, scores, types) + _bytes_field(2, trainer) + _bytes_field(3, normalizer)


def _normalizer_rules(metadata: Mapping[str, Any], file_name: str) -> bytes:
    """The file's character map; without one, text is left as it is (full-width punctuation too)."""
    charsmap = metadata.get("tokenizer.ggml.precompiled_charsmap")
    if charsmap is None:
        return _bytes_field(1, b"identity")
    if not isinstance(charsmap, np.ndarray) or charsmap.dtype.itemsize != 1:
        raise WrongModelError(
            f"{file_name}: tokenizer.ggml.precompiled_charsmap is not an array of bytes; convert the file again"
        )
    return _bytes_field(2, charsmap.tobytes())


def _vocabulary(metadata: Mapping[str, Any], file_name: str) -> tuple[Sequence[str], np.ndarray, np.ndarray]:
    """Tokens, scores (float32) and types (int, a copy), all of one length."""
    tokens, scores, types = (metadata.get(f"tokenizer.ggml.{name}") for name in ("tokens", "scores", "token_type"))
    if tokens is None:
        raise WrongModelError(
            f"{file_name}: has no tokenizer (tokenizer.ggml.tokens is missing); "
            "use a file with the tokenizer inside, as llama.cpp's converter writes it, or the safetensors version"
        )
    if not (isinstance(tokens, StringArray) and isinstance(scores, np.ndarray) and isinstance(types, np.ndarray)):
        raise WrongModelError(
            f"{file_name}: tokenizer.ggml.tokens, scores, token_type must be arrays of strings, floats and integers; "
            "use a file made from a sentencepiece model"
        )
    _check_vocabulary(tokens, scores, types, file_name)
    return tokens, scores.astype("<f4"), types.astype(np.int64)


def _check_vocabulary(tokens: StringArray, scores: np.ndarray, types: np.ndarray, file_name: str) -> None:
    """What sentencepiece would refuse later with a message that names no file."""
    lengths = len(tokens), len(scores), len(types)
    problem = ""
    if len(set(lengths)) > 1 or not lengths[0]:
        problem = f"tokens, scores and token_type have {lengths} items; one length above 0 is allowed"
    elif not np.isfinite(scores).all():
        problem = "scores has infinite or undefined values; finite ones are allowed"
    elif types.min() < 1 or types.max() > BYTE:
        problem = f"token_type {types[(types < 1) | (types > BYTE)][0]} is unknown; 1 to {BYTE} are allowed"
    else:
        seen: set[str] = set()
        for i, token in enumerate(tokens):
            if not token or token in seen:
                problem = f"tokens: token {token!r} occurs twice" if token else f"tokens: token {i} is empty"
                break
            seen.add(token)
    if problem:
        raise WrongModelError(f"{file_name}: tokenizer.ggml.{problem}; download or convert the file again")


def _model_type(metadata: Mapping[str, Any], file_name: str) -> int:
    name = metadata.get("tokenizer.ggml.model")
    model_type = metadata.get(MODEL_TYPE_KEY, _MODEL_TYPES.get(str(name)))
    if model_type not in (UNIGRAM, BPE):
        raise WrongModelError(
            f"{file_name}: tokenizer.ggml.model is {name!r} ({MODEL_TYPE_KEY}: {metadata.get(MODEL_TYPE_KEY)}); "
            "t5 (unigram) and llama (BPE) are sentencepiece models and allowed"
        )
    return model_type


def _unknown_id(metadata: Mapping[str, Any], types: np.ndarray, file_name: str) -> int:
    """The one piece of type unknown; a file without one may name it by id."""
    found = np.flatnonzero(types == UNKNOWN)
    if len(found) == 1:
        return int(found[0])
    named = _token_id(metadata, "tokenizer.ggml.unknown_token_id", len(types))
    if len(found) or named < 0:
        raise WrongModelError(
            f"{file_name}: tokenizer.ggml.token_type has {len(found)} unknown tokens (type {UNKNOWN}); 1 is allowed"
        )
    return named


def _token_id(metadata: Mapping[str, Any], key: str, n_tokens: int) -> int:
    value = metadata.get(key, -1)
    return value if type(value) is int and 0 <= value < n_tokens else -1


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers take ten bytes, as protobuf writes them
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint_field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _bytes_field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _pieces(tokens: Sequence[str], scores: np.ndarray, types: np.ndarray) -> bytes:
    """Field 1, once per token; the loop runs a quarter of a million times, so the tail is packed in one call."""
    pack_tail = struct.Struct("<BfBB").pack  # field 2 (fixed32), field 3 (varint of one byte)
    out = bytearray()
    for token, score, kind in zip(tokens, scores.tolist(), types.tolist(), strict=True):
        text = token.encode()
        body = b"\x0a" + _varint(len(text)) + text + pack_tail(0x15, score, 0x18, kind & 127)
        out += b"\x0a" + _varint(len(body)) + body
    return bytes(out)
