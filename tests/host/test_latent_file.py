"""A latent on disk: whole or not there, read by the host's own node, refused when it is not what it says."""

import errno
import json
import struct

import pytest
import safetensors.torch
import torch

import nodes as host_nodes
from wan_gguf.host.latent_file import (
    ORIGIN,
    check_latent_file,
    latent_path,
    list_latents,
    load_latent,
    origin_of,
    save_latent,
)
from wan_gguf.tests.own_folders import own_folders

resource = pytest.importorskip("resource", reason="limits of a process, which Windows has not")

TAGS = {
    "prompt": {"1": {"class_type": "X", "inputs": {"text": "红色"}}},
    "workflow": {"nodes": []},
    "wan_gguf": {"sampling": {"seed": 2**63, "cfg": 4.0}, "video": {"codec": "h264"}, "vae_name": "v.safetensors"},
}


@pytest.fixture
def samples():
    return torch.randn(2, 16, 3, 4, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Output and input folders of the host."""
    own_folders(tmp_path, monkeypatch, "output", "input")
    return tmp_path


def test_it_comes_back_bit_for_bit_with_its_settings(tmp_path, samples):
    path = tmp_path / "名 a.latent"
    save_latent(path, samples, TAGS)
    latent = load_latent(path)
    assert torch.equal(latent["samples"], samples)
    assert latent["wan_gguf"] == TAGS["wan_gguf"]["sampling"]
    assert latent[ORIGIN].tags == TAGS
    assert [file.name for file in tmp_path.iterdir()] == ["名 a.latent"]


def test_the_hosts_load_latent_reads_it(folders, samples):
    save_latent(folders / "input" / "a.latent", samples, TAGS)
    assert torch.equal(host_nodes.LoadLatent().load("a.latent")[0]["samples"], samples)


def test_a_file_of_the_hosts_save_latent_is_read(folders, samples):
    host_nodes.SaveLatent().save({"samples": samples}, "a", prompt=TAGS["prompt"])
    latent = load_latent(folders / "output" / "a_00001_.latent")
    assert torch.equal(latent["samples"], samples)
    assert latent[ORIGIN].tags["prompt"] == TAGS["prompt"] and "wan_gguf" not in latent


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bits_come_back_as_the_same_numbers(tmp_path, samples, dtype):
    save_latent(tmp_path / "a.latent", samples.to(dtype), {})
    assert torch.equal(load_latent(tmp_path / "a.latent")["samples"], samples.to(dtype).float())


def test_nothing_is_overwritten(tmp_path, samples):
    save_latent(tmp_path / "a.latent", samples, {})
    with pytest.raises(FileExistsError):
        save_latent(tmp_path / "a.latent", samples + 1, {})
    assert torch.equal(load_latent(tmp_path / "a.latent")["samples"], samples)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_leaves_nothing_behind(tmp_path, samples):
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
    try:
        with pytest.raises(OSError) as failure:
            save_latent(tmp_path / "a.latent", samples, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert failure.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


def test_the_origin_counts_as_long_as_nothing_changed(tmp_path, samples):
    path = tmp_path / "a.latent"
    save_latent(path, samples, TAGS)
    latent = load_latent(path)
    assert origin_of(latent).path == path
    assert origin_of({**latent, "samples": latent["samples"] * 1.0001}) is None
    assert origin_of({"samples": samples}) is None
    path.unlink()
    assert origin_of(latent) is None


def test_the_list_names_both_folders_the_newest_first(folders, samples):
    import os

    deep = "1/2/3/4/5/6/7/8/中文.latent"
    places = ["output/a.latent", f"output/{deep}", "input/b.latent", "output/.hidden/c.latent", "output/d.png"]
    for number, place in enumerate(places):
        (folders / place).parent.mkdir(parents=True, exist_ok=True)
        save_latent(folders / place, samples[:1], {})
        os.utime(folders / place, (number, number))
    names = list_latents()
    assert names == ["b.latent [input]", f"{deep} [output]", "a.latent [output]"]
    assert [latent_path(name) for name in names] == [folders / places[2], folders / places[1], folders / places[0]]


@pytest.mark.parametrize(
    "name",
    ["../a.latent [output]", "/etc/a.latent [input]", "a.latent", "a.png [output]", "sub/../../a.latent [output]", ""],
)
def test_names_that_leave_the_folders_are_refused(folders, samples, name):
    save_latent(folders / "a.latent", samples, {})
    with pytest.raises(ValueError, match="latent_name: "):
        latent_path(name)


def test_a_name_that_is_gone(folders):
    with pytest.raises(FileNotFoundError, match=r"latent_name: there is no file 'a.latent' in .*; refresh the list"):
        latent_path("a.latent [output]")


def test_a_link_out_of_the_folder_is_refused(folders, samples):
    save_latent(folders / "a.latent", samples, {})
    (folders / "output" / "link.latent").symlink_to(folders / "a.latent")
    with pytest.raises(ValueError, match="lies outside the host's output folder"):
        latent_path("link.latent [output]")


def raw(header: dict, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


MARK = {"latent_format_version_0": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}


def entry(shape, size, dtype="F32"):
    return {"latent_tensor": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}, **MARK}


BAD = {
    "a pickle": (b"PK\x03\x04" + bytes(100), "is a pickle"),
    "empty": (b"", "is empty"),
    "cut off": (raw(entry([1, 16, 1, 2, 2], 256), bytes(100)), "the download is incomplete"),
    "shape too large for its bytes": (raw(entry([1, 16, 1000, 1000, 1000], 256), bytes(256)), "do not hold"),
    "shape that overflows": (raw(entry([1 << 59, 1 << 59, 1, 1, 1], 256), bytes(256)), "do not hold"),
    "an image's latent": (raw(entry([1, 16, 4, 4], 1024), bytes(1024)), "a video latent has (batch, channels,"),
    "no values": (raw(entry([1, 16, 0, 4, 4], 0), b""), "a video latent has"),
    "whole numbers": (raw(entry([1, 1, 1, 1, 1], 4, "I32"), bytes(4)), "dtype I32; F32, F16 and BF16"),
    "no mark": (raw({"latent_tensor": entry([1, 1, 1, 1, 1], 4)["latent_tensor"]}, bytes(4)), "has no latent_tensor"),
    "another safetensors": (raw({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)), "has no"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_not_a_video_latent_is_refused(tmp_path, what):
    path, (content, message) = tmp_path / "a.latent", BAD[what]
    path.write_bytes(content)
    for read in (load_latent, check_latent_file):
        with pytest.raises(ValueError) as refused:
            read(path)
        assert message in str(refused.value) and "a.latent" in str(refused.value)


def test_values_that_are_not_finite_are_refused(tmp_path, samples):
    samples[0, 0, 0, 0, 0] = float("nan")
    save_latent(tmp_path / "a.latent", samples, {})
    with pytest.raises(ValueError, match="latent_tensor: has NaN or infinite values; sample it again"):
        load_latent(tmp_path / "a.latent")


def test_metadata_that_is_not_json_is_no_reason_to_lose_a_latent(tmp_path, samples):
    tensors = {"latent_tensor": samples, "latent_format_version_0": torch.tensor([])}
    metadata = {"wan_gguf": "{", "prompt": "[" * 100_000, "workflow": "7"}
    safetensors.torch.save_file(tensors, tmp_path / "a.latent", metadata)
    latent = load_latent(tmp_path / "a.latent")
    assert torch.equal(latent["samples"], samples)
    assert latent[ORIGIN].tags == {"wan_gguf": None, "prompt": None, "workflow": 7}
