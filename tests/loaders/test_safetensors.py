"""The safetensors reader: equal to the library on good files, one clear error for each bad one."""

import json
import struct

import numpy as np
import pytest
import safetensors.torch
import torch

from wan_gguf.loaders.safetensors_file import SafetensorsError, open_safetensors, read_header
from wan_gguf.ops.dequantize import dequantize
from wan_gguf.tests.loaders.build import safetensors_bytes


def test_a_file_of_the_library_is_read_back(tmp_path):
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "a": torch.randn(3, 5, generator=generator),
        "b": torch.randn(2, 3, 1, 2, generator=generator).half(),
        "c": torch.randn(7, generator=generator).bfloat16(),
        "scalar": torch.tensor(2.5),
        "bytes": torch.arange(9, dtype=torch.uint8),
    }
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})
    entries, metadata = read_header(path)
    assert metadata == {"format": "pt"}
    assert {name: entry.shape for name, entry in entries.items()} == {n: tuple(t.shape) for n, t in tensors.items()}
    for name, packed in open_safetensors(path, ["a", "b", "c", "scalar"]).items():
        assert torch.equal(dequantize(packed, tensors[name].dtype), tensors[name]), name
    with pytest.raises(SafetensorsError, match="tensor bytes: dtype U8; F32, F16 and BF16 are allowed"):
        open_safetensors(path)


def raw(table: object, data: int = 16) -> bytes:
    encoded = table if isinstance(table, bytes) else json.dumps(table).encode()
    return struct.pack("<Q", len(encoded)) + encoded + bytes(data)


def one(**changes: object) -> bytes:
    return raw({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16], **changes}})


BAD = {
    "empty": (b"", "is empty"),
    "pickle": (b"\x80\x02}q\x00." + bytes(80), "is a pickle"),
    "gguf": (b"GGUF" + bytes(80), "is a GGUF file"),
    "header past the end": (struct.pack("<Q", 5000) + b'{"a":' + bytes(90), "its length is 5000 bytes; the file has"),
    "not json": (raw(b'{"a": nonsense '), "header: is not JSON"),
    "not utf-8": (raw(b'{"\xff": 1}'), "header: is not JSON"),
    "deep json": (raw(b'{"a":' * 50_000), "header: is not JSON"),
    "duplicate": (
        raw(
            b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}'
        ),
        "header: a name occurs twice",
    ),
    "fields missing": (raw({"a": {"dtype": "F32"}}), "tensor a: its dtype, shape and data_offsets are not all there"),
    "not an object": (raw({"a": 5}), "tensor a: its dtype"),
    "negative shape": (one(shape=[-4]), "tensor a: its dtype"),
    "shape of text": (one(shape=["4"]), "tensor a: its dtype"),
    "absurd shape": (one(shape=[1 << 59, 1 << 59]), "tensor a: data_offsets .* do not hold"),
    "unknown dtype": (one(dtype="F12"), "tensor a: dtype 'F12' is unknown"),
    "dtype is a list": (one(dtype=["F32"]), "tensor a: dtype .* is unknown"),
    "absurd number": (raw(b'{"a": ' + b"9" * 5000 + b"}"), "header: is not JSON"),
    "offsets of another size": (one(data_offsets=[0, 12]), r"data_offsets \[0, 12\] do not hold F32 of shape \(4,\)"),
    "three offsets": (one(data_offsets=[0, 8, 16]), "do not hold"),
    "past the end": (one(data_offsets=[8, 24]), "tensor a: ends at byte .* the download is incomplete"),
    "overlap": (
        raw({n: {"dtype": "U8", "shape": [8], "data_offsets": [s, s + 8]} for n, s in (("a", 0), ("b", 4))}),
        "tensor b: overlaps another tensor",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_with_file_and_field(case, tmp_path):
    content, message = BAD[case]
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(SafetensorsError, match=message) as caught:
        read_header(tmp_path / "model.safetensors")
    assert str(caught.value).startswith("model.safetensors: ")


def test_a_thousand_damaged_headers(tmp_path):
    """Any damage gives a table or a SafetensorsError."""
    valid = safetensors_bytes({"a": ("F32", (4,), bytes(16)), "b": ("F16", (2, 3), bytes(12))})
    rng, path, good = np.random.default_rng(0), tmp_path / "x.safetensors", 0
    for _ in range(1000):
        damaged = bytearray(valid)
        for at in rng.integers(0, len(valid) - 28, rng.integers(1, 3)):
            damaged[at] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            for packed in open_safetensors(path).values():
                dequantize(packed)
            good += 1
        except SafetensorsError as error:
            assert str(error).startswith("x.safetensors: ")
    assert 0 < good < 1000
