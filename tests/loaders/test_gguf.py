"""The GGUF reader: what gguf-py writes is read back, and every kind of bad file gives one clear GGUFError."""

import gc
import struct
import time

import gguf
import numpy as np
import pytest
import torch

from wan_gguf.loaders.gguf import GGUFError, open_gguf
from wan_gguf.loaders.gguf.metadata import MAX_DEPTH
from wan_gguf.loaders.gguf.tensors import OTHER_TYPES, REMOVED_TYPES
from wan_gguf.ops.dequantize import dequantize
from wan_gguf.ops.formats import FORMATS
from wan_gguf.tests.loaders.build import array, entry, gguf_bytes, header, scalar, string, text

TENSORS = {
    "a": ("F32", (3, 5)),
    "b.weight": ("Q4_K", (2, 256)),
    "c": ("BF16", (7,)),
    "d": ("F16", (2, 3, 1, 2, 2)),
    "e": ("Q8_0", (1, 4, 64)),
}


@pytest.fixture
def opened(tmp_path):
    """A function that writes bytes to `model.gguf` and opens it."""

    def write_and_open(raw: bytes):
        path = tmp_path / "model.gguf"
        path.write_bytes(raw)
        return open_gguf(path)

    return write_and_open


def test_a_file_of_gguf_py_is_read_back(tmp_path):
    """Every metadata type and several tensor types; gguf-py is the reference implementation's Python half."""
    path, rng = tmp_path / "reference.gguf", np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "wan")
    writer.add_uint8("u8", 200)
    writer.add_int8("i8", -3)
    writer.add_uint16("u16", 60000)
    writer.add_int16("i16", -300)
    writer.add_uint32("u32", 4_000_000_000)
    writer.add_int32("i32", -70000)
    writer.add_uint64("u64", 1 << 63)
    writer.add_int64("i64", -(1 << 62))
    writer.add_float32("f32", 0.5)
    writer.add_float64("f64", 1e300)
    writer.add_bool("bool", True)
    writer.add_string("text", "视频 \u2581 video")
    writer.add_array("strings", ["", "红色", "a" * 300])
    writer.add_array("ints", [-1, 2, 3])
    writer.add_array("floats", [0.5, -2.0])
    writer.add_array("bools", [True, False])
    values = rng.standard_normal((4, 64)).astype(np.float32)
    quantised = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("plain", values)
    writer.add_tensor("half", values.astype(np.float16).reshape(2, 2, 8, 8))
    writer.add_tensor("quantised", quantised, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    with open_gguf(path) as file:
        found = file.metadata
        assert [found[key] for key in ("u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64")] == [
            200, -3, 60000, -300, 4_000_000_000, -70000, 1 << 63, -(1 << 62)
        ]  # fmt: skip
        assert (found["f32"], found["f64"], found["bool"], found["text"]) == (0.5, 1e300, True, "视频 \u2581 video")
        assert found["general.architecture"] == "wan"
        assert found["strings"] == ["", "红色", "a" * 300]
        assert found["strings"][1] == "红色"
        assert found["strings"][-2:] == ["红色", "a" * 300]
        assert (found["ints"].tolist(), found["floats"].tolist()) == ([-1, 2, 3], [0.5, -2.0])
        assert found["bools"].tolist() == [True, False]
        assert torch.equal(dequantize(file.packed("plain")), torch.from_numpy(values))
        assert file.packed("half").shape == (2, 2, 8, 8)
        expected = gguf.quants.dequantize(quantised, gguf.GGMLQuantizationType.Q8_0)
        assert np.array_equal(dequantize(file.packed("quantised")).numpy(), expected)


def test_version_2_and_no_metadata_and_five_dimensions(opened):
    raw = bytearray(gguf_bytes(TENSORS))
    raw[4] = 2
    file = opened(bytes(raw))
    assert {name: (info.format.name, info.shape) for name, info in file.tensors.items()} == TENSORS
    assert file.metadata == {}


def test_views_outlive_the_file(opened):
    """Closing drops the file's own hold only; a packed weight keeps the mapping."""
    file = opened(gguf_bytes(TENSORS))
    packed, again = file.packed("b.weight"), file.packed("b.weight")
    before = packed.data.clone()
    assert packed.data.data_ptr() == again.data.data_ptr()  # no copy
    file.close()
    file.close()
    with pytest.raises(GGUFError, match="the file was closed"):
        file.packed("a")
    del file, again
    gc.collect()
    assert torch.equal(packed.data, before)


def test_alignment_of_the_file_is_used(opened):
    keys = {"general.alignment": scalar("u32", 64)}
    head = header(1, 1) + string("general.alignment") + keys["general.alignment"] + entry("a", [4], 0, 64)
    file = opened(head + bytes(-len(head) % 64) + bytes(64) + struct.pack("<4f", 1, 2, 3, 4))
    assert dequantize(file.packed("a")).tolist() == [1, 2, 3, 4]


def test_nested_arrays(opened):
    inner = struct.pack("<IQ2I", 4, 2, 7, 8)
    file = opened(header(0, 1) + string("k") + struct.pack("<IIQ", 9, 9, 2) + inner + inner)
    assert [item.tolist() for item in file.metadata["k"]] == [[7, 8], [7, 8]]


def key(name: str | bytes, value: bytes) -> bytes:
    return header(0, 1) + string(name) + value


HUGE = struct.pack("<Q", 1 << 61)
GOOD_KEY = string("k") + scalar("u32", 1)
BAD = {
    "empty": (b"", "magic: the file is empty"),
    "not gguf": (b"\x00\x01\x02\x03" * 20, "magic: the file is of an unknown kind"),
    "pickle": (b"\x80\x02}q\x00." + bytes(80), "is a pickle"),
    "zip pickle": (b"PK\x03\x04" + bytes(80), "is a pickle"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a Git LFS pointer; download the real"),
    "html": (b"\n<!DOCTYPE html><html><body>Not Found</body></html>", "a web page"),
    "zeros": (bytes(200), "is zeros"),
    "old ggml": (b"lmgg" + bytes(80), "older than GGUF"),
    "cut in the header": (header(0, 0)[:20], "metadata count: needs 8 bytes"),
    "only the magic": (b"GGUF", "version: needs 4 bytes"),
    "version 1": (header(0, 0, version=1), "version: got 1; 2 and 3 are allowed"),
    "version 4": (header(0, 0, version=4), "version: got 4"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "big-endian magic": (b"FUGG" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "absurd tensor count": (b"GGUF" + struct.pack("<I", 3) + HUGE + bytes(90), r"tensor count: got \d+; at most"),
    "tensor count past the end": (header(60000, 0), "tensor count: got 60000 items of at least 32 bytes"),
    "absurd metadata count": (b"GGUF" + struct.pack("<IQ", 3, 0) + HUGE, "metadata count: got"),
    "absurd key length": (header(0, 1) + HUGE + bytes(90), "metadata key 0: got a length of"),
    "key past the end": (header(0, 1) + struct.pack("<Q", 300) + bytes(90), "metadata key 0: needs 300 bytes"),
    "key not utf-8": (key(b"\xff\xfe", scalar("u32", 1)), "metadata key 0: is not UTF-8"),
    "empty key": (key("", scalar("u32", 1)), "metadata key 0: is empty"),
    "duplicate key": (header(0, 2) + GOOD_KEY * 2, "metadata key 1: 'k' occurs twice"),
    "unknown value type": (key("k", struct.pack("<II", 13, 0)), "metadata k: value type 13 is unknown"),
    "bool of 2": (key("k", struct.pack("<IB", 7, 2)), "metadata k: bool is 2"),
    "bool array of 9": (key("k", struct.pack("<IIQ2B", 9, 7, 2, 1, 9)), "metadata k: a bool is 9"),
    "value not utf-8": (key("k", text(b"\xc3")), "metadata k: is not UTF-8"),
    "value past the end": (key("k", struct.pack("<I", 10)), r"metadata k \(u64\): needs 8 bytes"),
    "absurd array": (key("k", struct.pack("<II", 9, 5) + HUGE), r"metadata k \(count\): got"),
    "array past the end": (key("k", struct.pack("<IIQ", 9, 4, 9)), r"metadata k \(count\): got 9 items of at least 4"),
    "absurd string array": (key("k", struct.pack("<II", 9, 8) + HUGE), r"metadata k \(count\): got"),
    "string in array past the end": (key("k", struct.pack("<IIQQ", 9, 8, 1, 9)), r"metadata k\[0\]: got a length of 9"),
    "strings cut short": (
        key("k", struct.pack("<IIQ", 9, 8, 2) + struct.pack("<Q", 8) + b"abcdefgh"),
        r"metadata k\[1\]: its length lies at byte",
    ),
    "string in array not utf-8": (key("k", array("str", ["ok", b"\x80"])), r"metadata k\[1\]: is not UTF-8"),
    "unknown item type": (key("k", struct.pack("<IIQ", 9, 99, 0)), "metadata k: item type 99 is unknown"),
    "arrays too deep": (
        key("k", struct.pack("<II", 9, 9) + struct.pack("<QI", 1, 9) * (MAX_DEPTH + 2) + bytes(72)),
        "nested deeper than",
    ),
    "absurd nested array": (key("k", struct.pack("<IIQ", 9, 9, 1 << 40)), r"metadata k \(count\): got"),
    "alignment 3": (key("general.alignment", scalar("u32", 3)), "general.alignment: got 3; a power of two"),
    "alignment 0": (key("general.alignment", scalar("u32", 0)), "general.alignment: got 0"),
    "alignment text": (key("general.alignment", text("32")), "general.alignment: got '32'"),
    "absurd alignment": (key("general.alignment", scalar("u64", 1 << 63)), "general.alignment: got"),
}


def table(*entries: bytes, data: int = 64) -> bytes:
    head = header(len(entries), 0) + b"".join(entries)
    return head + bytes(-len(head) % 32) + bytes(data)


BAD |= {
    "duplicate tensor": (table(entry("a", [4], 0, 0), entry("a", [4], 0, 32)), "tensor a: occurs twice"),
    "empty tensor name": (table(entry("", [4], 0, 0)), "tensor 0 name: is empty"),
    "tensor name not utf-8": (table(entry(b"\xff", [4], 0, 0)), "tensor 0 name: is not UTF-8"),
    "no dimensions": (table(entry("a", [], 0, 0)), "tensor a: has 0 dimensions; 1 to 5"),
    "six dimensions": (table(entry("a", [1] * 6, 0, 0)), "tensor a: has 6 dimensions"),
    "dimension of zero": (table(entry("a", [4, 0], 0, 0)), r"tensor a: has dimensions \[4, 0\]"),
    "absurd dimensions": (table(entry("a", [1 << 40, 1 << 40], 0, 0)), "tensor a: has dimensions"),
    "dimensions that overflow": (table(entry("a", [1 << 32, 1 << 32], 0, 0)), "tensor a: has dimensions"),
    "unknown type": (
        table(entry("a", [4], 999, 0)),
        "tensor a: type id 999 is unknown; the types that work are F32",
    ),
    "removed type": (table(entry("a", [32], 31, 0)), "tensor a: type Q4_0_4_4 was removed from GGML; the types that"),
    "type of another purpose": (
        table(entry("a", [256], 15, 0)),
        "tensor a: type Q8_K is not supported; the types that work are F32, F16, Q4_0, .*, NVFP4; use the same model",
    ),
    "row not whole": (table(entry("a", [33], 8, 0)), "tensor a: Q8_0 row length: got 33; a multiple of 32"),
    "offset not aligned": (table(entry("a", [4], 0, 8)), "tensor a: offset 8 is not a multiple of the alignment 32"),
    "offset past the end": (table(entry("a", [4], 0, 1 << 40)), "tensor a: ends at byte .* the download is incomplete"),
    "tensor past the end": (table(entry("a", [17], 0, 0)), "tensor a: ends at byte .* the download is incomplete"),
    "overlap": (table(entry("a", [16], 0, 0), entry("b", [4], 0, 32)), "tensor b: starts at byte .* inside tensor a"),
    "cut in the table": (table(entry("a", [4], 0, 0), data=0)[:40], "tensor count: got 1 items"),
}


def test_every_type_of_ggml_works_or_is_refused_by_name():
    names = {ggml_type.value: ggml_type.name for ggml_type in gguf.GGMLQuantizationType}
    assert names.items() <= (OTHER_TYPES | {found.ggml_type: name for name, found in FORMATS.items()}).items()
    assert not (OTHER_TYPES | REMOVED_TYPES).keys() & {found.ggml_type for found in FORMATS.values()}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_with_file_and_field(case, opened):
    raw, message = BAD[case]
    with pytest.raises(GGUFError, match=message) as caught:
        opened(raw)
    assert str(caught.value).startswith("model.gguf: ")


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_gguf(tmp_path / "none.gguf")


def test_a_vocabulary_of_256384_tokens_is_parsed_quickly(tmp_path):
    """Measured at 0.2 s; the bound allows for a machine that does something else. Only offsets stay in memory."""
    count = 256_384
    keys = {
        "tokenizer.ggml.tokens": array("str", [f"\u2581tok{i}" for i in range(count)]),
        "tokenizer.ggml.scores": struct.pack("<IIQ", 9, 6, count) + np.arange(count, dtype="<f4").tobytes(),
        "tokenizer.ggml.token_type": struct.pack("<IIQ", 9, 5, count) + np.ones(count, "<i4").tobytes(),
    }
    path = tmp_path / "vocabulary.gguf"
    path.write_bytes(gguf_bytes({"a": ("F32", (4,))}, keys))
    start = time.process_time()
    file = open_gguf(path)
    assert time.process_time() - start < 5
    tokens = file.metadata["tokenizer.ggml.tokens"]
    assert (len(tokens), tokens[0], tokens[-1]) == (count, "\u2581tok0", f"\u2581tok{count - 1}")
    assert file.metadata["tokenizer.ggml.scores"][1000] == 1000
    assert not file.metadata["tokenizer.ggml.scores"].flags.owndata
