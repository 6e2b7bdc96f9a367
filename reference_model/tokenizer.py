"""The reference model's vocabulary: a small bilingual sentencepiece unigram model with byte fallback, like UMT5's.

Its pieces are counted, not trained: whole English words, single Chinese characters, letters, bytes; the score is the
logarithm of the frequency. (The library's unigram trainer finds pieces that several words share, and this world has too
few words for that; it splits "white" and "watch" into common fragments.) Ids as in UMT5: padding 0, end of sentence 1.
"""

import environment

environment.enter(__file__)

import math
import string
from array import array
from collections import Counter
from itertools import accumulate

import numpy as np
import sentencepiece

from captions import LANGUAGES, NOTHING, caption
from training import WORK
from wan_gguf.loaders.gguf import StringArray
from wan_gguf.loaders.tokenizer import build_spiece_model
from world import TRAINING

NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
SPACE = "\u2581"
MIN_COUNT = 10
PUNCTUATION = ",.!?;:'\"()-，。！？；：、（）"


def corpus(count: int = 12000) -> list[str]:
    rng = np.random.default_rng(0)
    texts = [caption(TRAINING[rng.integers(len(TRAINING))], LANGUAGES[i % 2], rng) for i in range(count)]
    return [*texts, *(text for text in NOTHING for _ in range(MIN_COUNT))]


def is_han(character: str) -> bool:
    return "\u4e00" <= character <= "\u9fff"


def count_pieces(texts: list[str]) -> Counter:
    """Whole words with their leading space, and every character on its own."""
    counts = Counter({SPACE: len(texts)})
    for text in texts:
        for word in text.split():
            letters = word.rstrip(PUNCTUATION)
            if letters and not any(is_han(ch) for ch in letters):
                counts[SPACE + letters] += 1
            counts.update(ch for ch in word if is_han(ch) or ch in PUNCTUATION)
    kept = Counter({piece: n for piece, n in counts.items() if n >= MIN_COUNT})
    for character in string.ascii_letters + string.digits + PUNCTUATION:
        kept.setdefault(character, 1)
    return kept


def as_in_a_file(texts: list[str]) -> StringArray:
    encoded = [text.encode() for text in texts]
    stops = array("q", accumulate(len(text) for text in encoded))
    return StringArray(memoryview(b"".join(encoded)), array("q", [0, *stops[:-1]]), stops)


def build() -> bytes:
    """The serialised sentencepiece model."""
    counts = count_pieces(corpus())
    total = sum(counts.values())
    pieces = [("<pad>", 0.0, CONTROL), ("</s>", 0.0, CONTROL), ("<unk>", 0.0, UNKNOWN)]
    pieces += [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    pieces += [(piece, math.log(n / total), NORMAL) for piece, n in sorted(counts.items(), key=lambda p: (-p[1], p[0]))]
    tokens, scores, types = (list(column) for column in zip(*pieces, strict=True))
    return build_spiece_model(
        {
            "tokenizer.ggml.model": "t5",
            "tokenizer.ggml.tokens": as_in_a_file(tokens),
            "tokenizer.ggml.scores": np.array(scores, dtype=np.float32),
            "tokenizer.ggml.token_type": np.array(types, dtype=np.int32),
            "tokenizer.ggml.add_space_prefix": True,
            "tokenizer.ggml.remove_extra_whitespaces": True,
            "tokenizer.ggml.eos_token_id": 1,
            "tokenizer.ggml.padding_token_id": 0,
            "tokenizer.ggml.unknown_token_id": 2,
        },
        "vocabulary",
    )


def main() -> None:
    WORK.mkdir(exist_ok=True)
    model = build()
    (WORK / "spiece.model").write_bytes(model)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    print(processor.get_piece_size(), "pieces")
    for text in ("a red circle moves left", "一个红色的圆形向左移动,黑色背景", "watch the violet disc"):
        print(processor.encode(text, out_type=str))


if __name__ == "__main__":
    main()
