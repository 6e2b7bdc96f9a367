"""A conversion from end to end: what stands in the file, and that there is none when it did not end well."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from types import SimpleNamespace

import gguf
import numpy as np
import pytest
import torch

from wan_gguf.convert import pieces
from wan_gguf.convert.errors import ConvertError
from wan_gguf.convert.partial import PartialFile
from wan_gguf.convert.plan import plan_gguf, plan_safetensors
from wan_gguf.convert.run import convert
from wan_gguf.convert.source import open_source
from wan_gguf.loaders.describe import describe
from wan_gguf.loaders.gguf import open_gguf
from wan_gguf.loaders.wan import load_wan
from wan_gguf.ops.dequantize import dequantize
from wan_gguf.tests.convert.build import decoded, wan_values, write_safetensors


@pytest.fixture(scope="module")
def values() -> dict[str, torch.Tensor]:
    return wan_values()


@pytest.fixture
def source(tmp_path, values):
    return open_source(write_safetensors(tmp_path / "wan2.2_high_noise.safetensors", values, "BF16"))


@pytest.fixture
def small_pieces(monkeypatch):
    """Several pieces to a tensor."""
    monkeypatch.setattr(pieces, "PIECE_ELEMENTS", 1 << 14)


def test_the_file_loads_and_is_close_to_the_source(tmp_path, source, values, small_pieces):
    target = tmp_path / "out.gguf"
    plan = plan_gguf(source, "Q8_0")
    summary = convert(source, plan, target)
    assert target.stat().st_size == plan.nbytes == summary.nbytes
    loaded = load_wan(target)
    assert loaded.config == source.config
    assert loaded.tensors["patch_embedding.weight"].shape == (256, 16, 1, 2, 2)
    for name, packed in loaded.tensors.items():
        exact = values[name].bfloat16().float()
        found = dequantize(packed)
        if packed.format.name == "Q8_0":  # half a step of 1/127 of a block's largest weight, and the scale's rounding
            assert (found - exact).abs().max() <= exact.abs().max() * (0.5 / 127 + 2**-11)
        else:
            assert torch.equal(found, exact), name
    assert open_gguf(target).tensors["patch_embedding.weight"].shape == (256, 16, 1, 2, 2)
    assert describe(target).problem is None


def test_gguf_py_reads_the_same(tmp_path, source, small_pieces):
    target = tmp_path / "out.gguf"
    plan = plan_gguf(source, "Q4_K_M")
    convert(source, plan, target)
    reader = gguf.GGUFReader(target)
    assert [tensor.name for tensor in reader.tensors] == [tensor.name for tensor in plan.tensors]
    for theirs, planned in zip(reader.tensors, plan.tensors, strict=True):
        assert (theirs.tensor_type.name, tuple(reversed(theirs.shape.tolist()))) == (planned.type_name, planned.shape)
        raw = np.ascontiguousarray(theirs.data)
        ours = open_gguf(target).packed(planned.name)
        assert raw.reshape(-1).view(np.uint8).tobytes() == ours.data.numpy().tobytes()
    assert Counter(t.tensor_type.name for t in reader.tensors) == {n: c for n, (c, _) in plan.types().items()}


def test_metadata_says_where_it_comes_from(tmp_path, source):
    convert(source, plan_gguf(source, "Q4_0"), tmp_path / "out.gguf")
    found = open_gguf(tmp_path / "out.gguf").metadata
    digest = hashlib.sha256(source.path.read_bytes()).hexdigest()
    assert list(found["wan_gguf.source.sha256"]) == [digest]
    assert list(found["wan_gguf.source.files"]) == ["wan2.2_high_noise.safetensors"]
    assert (found["general.architecture"], found["wan_gguf.expert"]) == ("wan", "high")
    assert list(found["wan_gguf.source.dtypes"]) == ["BF16"]
    convert(source, plan_gguf(source, "Q4_0", plain=True), tmp_path / "plain.gguf")
    assert open_gguf(tmp_path / "plain.gguf").metadata == {
        "general.architecture": "wan", "general.quantization_version": 2, "general.file_type": 2,
    }  # fmt: skip


def test_the_same_source_makes_the_same_bytes(tmp_path, source, small_pieces, monkeypatch):
    plan = plan_gguf(source, "Q3_K_M")
    convert(source, plan, tmp_path / "a.gguf")
    monkeypatch.setattr(pieces, "PIECE_ELEMENTS", 1 << 21)
    convert(source, plan, tmp_path / "b.gguf")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_back_to_safetensors(tmp_path, source, dtype):
    convert(source, plan_gguf(source, "Q8_0"), tmp_path / "a.gguf")
    quantised = open_source(tmp_path / "a.gguf")
    convert(quantised, plan_safetensors(quantised, dtype, "apache-2.0"), tmp_path / "b.safetensors")
    back = open_source(tmp_path / "b.safetensors")
    assert back.metadata["license"] == "apache-2.0"
    kind = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}[dtype]
    found = decoded(back)
    for name, numbers in decoded(quantised).items():
        assert np.array_equal(found[name], torch.from_numpy(numbers).to(kind).float().numpy())


def test_blocks_that_stay_what_they_are_are_copied(tmp_path, source):
    convert(source, plan_gguf(source, "Q8_0", plain=True), tmp_path / "a.gguf")
    again = open_source(tmp_path / "a.gguf")
    convert(again, plan_gguf(again, "Q8_0", plain=True), tmp_path / "b.gguf")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


class StopError(Exception):
    """What a test stops a conversion with."""


@pytest.mark.parametrize("stop_at", [1, 7, 60])
@pytest.mark.parametrize("error", [StopError, KeyboardInterrupt])
def test_an_interrupted_conversion_leaves_nothing(tmp_path, source, small_pieces, stop_at, error):
    seen = []

    def check():
        seen.append(sorted(path.name for path in tmp_path.iterdir()))
        if len(seen) == stop_at:
            raise error

    with pytest.raises(error):
        convert(source, plan_gguf(source, "Q4_0"), tmp_path / "out.gguf", check_interrupt=check)
    assert set(map(tuple, seen)) == {("out.gguf.part", source.path.name)}
    assert [path.name for path in tmp_path.iterdir()] == [source.path.name]


def test_progress_goes_from_the_first_tensor_to_the_last(tmp_path, source, small_pieces):
    seen = []
    convert(source, plan_gguf(source, "Q4_0"), tmp_path / "out.gguf", progress=seen.append)
    done = [(at.tensors, at.source_bytes) for at in seen]
    assert done == sorted(done)
    assert len(done) > len(source.tensors)
    assert done[-1] == (len(source.tensors), source.nbytes)


KILLED = """
    import importlib.util, os, signal, sys
    root = sys.argv[1]
    spec = importlib.util.spec_from_file_location("wan_gguf", root + "/__init__.py", submodule_search_locations=[root])
    sys.modules["wan_gguf"] = importlib.util.module_from_spec(spec)
    from wan_gguf.convert.plan import plan_gguf
    from wan_gguf.convert.run import convert
    from wan_gguf.convert.source import open_source
    source = open_source(sys.argv[2])
    seen = []
    def check():
        seen.append(1)
        if len(seen) == 20:
            os.kill(os.getpid(), signal.SIGKILL)
    convert(source, plan_gguf(source, "Q4_0"), sys.argv[3], check_interrupt=check)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 on this system")
def test_after_kill_9_there_is_no_file_and_the_next_run_takes_the_part_over(tmp_path, source, root):
    target = tmp_path / "out.gguf"
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(root), str(source.path), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not target.exists()
    assert (tmp_path / "out.gguf.part").exists()
    convert(source, plan_gguf(source, "Q4_0"), target)
    assert not (tmp_path / "out.gguf.part").exists()
    assert describe(target).problem is None


def test_two_conversions_do_not_write_the_same_file(tmp_path, source):
    target = tmp_path / "out.gguf"
    with PartialFile(target):
        with pytest.raises(ConvertError, match="another conversion is writing this file"):
            convert(source, plan_gguf(source, "Q4_0"), target)
        assert (tmp_path / "out.gguf.part").exists()
    assert not (tmp_path / "out.gguf.part").exists()


def test_an_existing_file_is_kept_unless_it_may_be_overwritten(tmp_path, source):
    target = tmp_path / "out.gguf"
    target.write_bytes(b"something else")
    plan = plan_gguf(source, "Q4_0")
    with pytest.raises(ConvertError, match=r"out.gguf: exists; choose another name, or overwrite it with --force"):
        convert(source, plan, target)
    assert target.read_bytes() == b"something else"
    convert(source, plan, target, force=True)
    assert target.stat().st_size == plan.nbytes


def test_a_file_that_appears_meanwhile_is_kept(tmp_path, source):
    target = tmp_path / "out.gguf"

    def check():
        target.write_bytes(b"something else")

    with pytest.raises(ConvertError, match="was made by another program in the meantime"):
        convert(source, plan_gguf(source, "Q4_0"), target, check_interrupt=check)
    assert target.read_bytes() == b"something else"
    assert not (tmp_path / "out.gguf.part").exists()


def test_the_source_is_not_overwritten(tmp_path, source):
    before = source.path.read_bytes()
    with pytest.raises(ConvertError, match="is the source itself"):
        convert(source, plan_safetensors(source, "F16"), source.path, force=True)
    assert source.path.read_bytes() == before


def test_names_and_folders_that_do_not_work(tmp_path, source):
    plan = plan_gguf(source, "Q4_0")
    (tmp_path / "folder.gguf").mkdir()
    for name, message in {
        "out.safetensors": "this writes a .gguf file",
        "missing/out.gguf": "the folder .*missing does not exist",
        "folder.gguf": "is a folder; name a file",
    }.items():
        with pytest.raises(ConvertError, match=message):
            convert(source, plan, tmp_path / name)


def test_names_in_chinese_with_spaces(tmp_path, values):
    folder = tmp_path / "模型 文件夹"
    folder.mkdir()
    source = open_source(write_safetensors(folder / "低噪声 low noise.safetensors", values))
    convert(source, plan_gguf(source, "Q4_0"), folder / "输出 文件.gguf")
    found = open_gguf(folder / "输出 文件.gguf").metadata
    assert list(found["wan_gguf.source.files"]) == ["低噪声 low noise.safetensors"]
    assert found["wan_gguf.expert"] == "low"


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path, source, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=100_000))
    with pytest.raises(ConvertError, match=r"0\.00 GB are needed and 0\.00 GB free; make room"):
        convert(source, plan_gguf(source, "Q8_0"), tmp_path / "out.gguf")
    assert [path.name for path in tmp_path.iterdir()] == [source.path.name]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_damaged_weight_is_named_and_nothing_is_written(tmp_path, values, value):
    damaged = {**values, "blocks.1.ffn.2.weight": values["blocks.1.ffn.2.weight"].clone()}
    damaged["blocks.1.ffn.2.weight"][3, 4] = value
    source = open_source(write_safetensors(tmp_path / "model.safetensors", damaged))
    with pytest.raises(
        ConvertError, match=r"model.safetensors: tensor blocks.1.ffn.2.weight: 1 of \d+ numbers are not"
    ):
        convert(source, plan_gguf(source, "Q4_K_M"), tmp_path / "out.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_no_more_than_a_few_pieces_are_made_ahead(tmp_path, source, small_pieces, monkeypatch):
    """Memory must not grow when the disk is slower than the quantiser."""
    made = []
    original = pieces._pack

    def counting(*arguments):
        made.append(1)
        return original(*arguments)

    monkeypatch.setattr(pieces, "_pack", counting)
    written = 0
    for _ in pieces.packed_pieces(source, plan_gguf(source, "Q4_0")):
        time.sleep(0.001)
        written += 1
        assert len(made) - written <= 3
    assert written == len(made) > 60


def test_the_part_is_opened_for_its_owner_s_usual_rights(tmp_path):
    """As any other new file: what a server's group may read, it may read."""
    previous = os.umask(0o022)
    try:
        with PartialFile(tmp_path / "a.gguf") as part:
            part.complete()
    finally:
        os.umask(previous)
    if sys.platform != "win32":
        assert (tmp_path / "a.gguf").stat().st_mode & 0o777 == 0o644
