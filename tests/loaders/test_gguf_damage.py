"""Damaged GGUF files: whatever bytes change, opening gives a file or a GGUFError, quickly and in little memory."""

import time
import tracemalloc

import numpy as np
import pytest

from wan_gguf.loaders.gguf import GGUFError, open_gguf
from wan_gguf.loaders.gguf.cursor import Cursor
from wan_gguf.loaders.identify import WrongModelError
from wan_gguf.loaders.tokenizer import build_spiece_model
from wan_gguf.ops.dequantize import dequantize
from wan_gguf.tests.loaders.build import array, gguf_bytes, scalar, string, text

COUNTS = [0, 1, 1 << 31, 1 << 40, 1 << 62, (1 << 64) - 1]
INTERESTING = [0, 1, 2, 7, 8, 9, 31, 32, 64, 127, 128, 254, 255]
VALID = gguf_bytes(
    {"a": ("F32", (3, 5)), "b.weight": ("Q4_K", (2, 256)), "c": ("BF16", (7,)), "d": ("F16", (2, 3, 1, 2, 2))},
    {
        "general.architecture": text("t5encoder"),
        "general.alignment": scalar("u32", 32),
        "flag": scalar("bool", 1),
        "ratio": scalar("f32", 0.5),
        "tokenizer.ggml.model": text("t5"),
        "tokenizer.ggml.tokens": array("str", ["<pad>", "</s>", "<unk>", "\u2581红", "色"]),
        "tokenizer.ggml.scores": array("f32", [0, 0, 0, -1, -2]),
        "tokenizer.ggml.token_type": array("i32", [3, 3, 2, 1, 1]),
        "flags": array("bool", [0, 1, 1]),
    },
)
HEAD_BYTES = VALID.index(string("d")) + 70  # the header; damage beyond it only changes numbers


def mutate(rng: np.random.Generator) -> bytes:
    """One to four damages: a byte, a bit, eight bytes (a count, a length), bytes removed or repeated."""
    raw = bytearray(VALID)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(0, min(HEAD_BYTES, len(raw))))
        kind = rng.integers(0, 6)
        if kind == 0:
            raw[at] = int(rng.choice(INTERESTING))
        elif kind == 1:
            raw[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 2:
            raw[at : at + 8] = int(rng.integers(0, 1 << 63)).to_bytes(8, "little")
        elif kind == 3:
            raw[at : at + 8] = COUNTS[rng.integers(0, len(COUNTS))].to_bytes(8, "little")
        elif kind == 4:
            del raw[at : at + int(rng.integers(1, 40))]
        else:
            raw[at:at] = raw[at : at + int(rng.integers(1, 40))]
    return bytes(raw)


def use(path) -> bool:
    """Open, decode every tensor, build the tokenizer; True when all went well."""
    try:
        file = open_gguf(path)
        for name in file.tensors:
            dequantize(file.packed(name))
        build_spiece_model(file.metadata, path.name)
    except GGUFError as error:
        assert str(error).startswith(path.name)
        return False
    except WrongModelError as error:  # a file that is in order but lacks a tokenizer key
        assert str(error).startswith(path.name)
        return False
    return True


def test_the_undamaged_file_is_good(tmp_path):
    (tmp_path / "good.gguf").write_bytes(VALID)
    assert use(tmp_path / "good.gguf")


def test_every_truncation(tmp_path):
    path = tmp_path / "cut.gguf"
    for length in range(len(VALID)):
        path.write_bytes(VALID[:length])
        cut_in_padding = length > len(VALID) - 32 and not any(VALID[length:])
        assert use(path) == cut_in_padding, length


@pytest.mark.parametrize("seed", range(4))
def test_four_times_a_thousand_damaged_files(seed, tmp_path):
    """The valid file is 2 KB: 8 MB allows for Python's own objects, not for one absurd count believed."""
    rng, path = np.random.default_rng(seed), tmp_path / "damaged.gguf"
    worst_s, good = 0.0, 0
    tracemalloc.start()
    try:
        for _ in range(1000):
            path.write_bytes(mutate(rng))
            start = time.process_time()
            good += use(path)
            worst_s = max(worst_s, time.process_time() - start)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0 < good < 1000  # some damages are harmless, most are not: the test reaches both outcomes
    assert worst_s < 2
    assert peak_bytes < 8 << 20


def test_a_count_is_not_believed_before_its_bytes_are_there(tmp_path):
    cursor = Cursor(tmp_path / "x.gguf", memoryview((1 << 20).to_bytes(8, "little") + bytes(100)))
    with pytest.raises(GGUFError, match="1048576 items of at least 8 bytes; the file has 100 left"):
        cursor.count("things", 8, 1 << 40)
