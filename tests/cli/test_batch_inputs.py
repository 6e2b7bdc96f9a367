"""A job's folder keeps what its workflow read from ComfyUI's folders; the server is the fake one."""

import asyncio
import hashlib

import pytest

from wan_gguf.cli import batch_inputs, batch_run
from wan_gguf.cli.batch_api import Api, connected
from wan_gguf.cli.batch_inputs import fetch_inputs, keep_inputs
from wan_gguf.cli.batch_single import run_one
from wan_gguf.cli.client import ServerGoneError
from wan_gguf.cli.record_form import read_record
from wan_gguf.tests.cli.batch_case import BatchCase, serving
from wan_gguf.tests.cli.fake_comfy import png, workflow

UPLOAD = {"input": {"required": {"picture": [["x"], {"image_upload": True}]}}}


def loading(*names: str) -> dict:
    """EmptyImage -> SaveImage, and a node that loads each of the names."""
    nodes = {
        f"load{number}": {"class_type": "LoadImage", "inputs": {"image": name}} for number, name in enumerate(names)
    }
    return {**workflow(1), **nodes}


def kept(file: str, content: bytes) -> dict:
    return {"file": file, "sha256": hashlib.sha256(content).hexdigest()}


def fetched(tmp_path, made: dict, change=lambda fake: None) -> dict:
    """What fetch_inputs gives of a server with a few files."""

    async def scenario():
        async with serving() as fake:
            fake.uploads = {
                ("input", "", "起始 图.png"): b"start",
                ("input", "子/b", "起始 图.png"): b"other",
                ("temp", "", "t.png"): b"temp",
                ("output", "", "empty.png"): b"",
            }
            fake.info = {"OfAnotherPack": UPLOAD}
            change(fake)
            async with connected(fake.address, "test") as api:
                return await fetch_inputs(api, made, tmp_path)

    return asyncio.run(scenario())


def test_every_named_file_is_kept_under_a_name_of_its_own(tmp_path):
    made = loading("起始 图.png", "子/b/起始 图.png [input]", "t.png [temp]", "empty.png [output]", "起始 图.png")
    assert fetched(tmp_path, made) == {
        "起始 图.png": kept("inputs/1-起始 图.png", b"start"),
        "子/b/起始 图.png [input]": kept("inputs/2-起始 图.png", b"other"),
        "t.png [temp]": kept("inputs/3-t.png", b"temp"),
        "empty.png [output]": kept("inputs/4-empty.png", b""),
    }
    assert (tmp_path / "inputs" / "1-起始 图.png").read_bytes() == b"start"
    assert len(list((tmp_path / "inputs").iterdir())) == 4


def test_a_node_of_another_pack_is_known_by_the_servers_mark(tmp_path):
    made = {"a": {"class_type": "OfAnotherPack", "inputs": {"picture": "起始 图.png", "title": "t.png"}}}
    assert fetched(tmp_path, made) == {"起始 图.png": kept("inputs/1-起始 图.png", b"start")}


@pytest.mark.parametrize("name", ["gone.png", "../secret.png", "/etc/passwd", "a\0b.png", "C:\\a.png"])
def test_a_file_the_server_does_not_have_or_may_not_be_asked_for(tmp_path, name):
    assert fetched(tmp_path, loading(name)) == {name: None}
    assert not (tmp_path / "inputs").exists()


def test_a_file_that_is_too_long_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(batch_inputs, "MAX_BYTES", len(b"start") - 1)
    assert fetched(tmp_path, loading("起始 图.png", "t.png [temp]")) == {
        "起始 图.png": None,
        "t.png [temp]": kept("inputs/2-t.png", b"temp"),
    }
    assert [path.name for path in (tmp_path / "inputs").iterdir()] == ["2-t.png"]


def test_a_name_that_the_servers_disk_refuses_does_not_stop_the_batch(tmp_path):
    def break_it(fake) -> None:
        fake.uploads["input", "", "broken.png"] = object()  # no content of an answer: HTTP 500

    assert fetched(tmp_path, loading("broken.png"), break_it) == {"broken.png": None}


def test_a_connection_that_ends_while_an_image_is_fetched_leaves_no_half_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(batch_run, "SETTLE_S", 0.02)
    download, asked = Api.download, []

    async def lose_the_first(self, entry, path, limit_bytes=None):
        asked.append(entry["filename"])
        if asked.count("start.png") == 1 and entry["filename"] == "start.png":
            raise ServerGoneError("the connection to ComfyUI ended")
        await download(self, entry, path, limit_bytes)

    monkeypatch.setattr(Api, "download", lose_the_first)

    async def scenario():
        async with serving() as fake:
            fake.uploads = {("input", "", "start.png"): b"start"}
            await BatchCase(tmp_path, fake.address, [("a", loading("start.png"))]).run()
            assert fake.runs == {1: 1}

    asyncio.run(scenario())
    assert asked.count("start.png") == 2
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["0001-a"]
    assert read_record(tmp_path / "0001-a" / "settings.json")["inputs"]["start.png"] is not None


def test_a_server_is_asked_for_a_class_once(tmp_path, monkeypatch):
    asked, ask = [], Api._json

    async def count(self, method, path, body=None):
        asked.append(path)
        return await ask(self, method, path, body)

    monkeypatch.setattr(Api, "_json", count)

    async def scenario():
        async with serving() as fake, connected(fake.address, "test") as api:
            for _ in range(3):
                await fetch_inputs(api, workflow(1), tmp_path)

    asyncio.run(scenario())
    assert sorted(asked) == ["/object_info/EmptyImage", "/object_info/SaveImage"]


def test_the_record_of_a_job_names_what_it_keeps(tmp_path):
    """Through the whole loop of a batch; a second place of the job has its own copy."""
    start = png(5)

    async def scenario():
        async with serving() as fake:
            fake.uploads = {("input", "", "start.png"): start}
            batch = BatchCase(tmp_path, fake.address, [("a", loading("start.png")), ("b", loading("start.png"))])
            await batch.run()
            assert set(batch.states.values()) == {"done"}

    asyncio.run(scenario())
    for folder in (tmp_path / "0001-a", tmp_path / "0002-b"):
        record = read_record(folder / "settings.json")
        assert record["inputs"] == {"start.png": kept("inputs/1-start.png", start)}
        assert (folder / "inputs" / "1-start.png").read_bytes() == start
        assert list(record["files"]) == ["save.png"]


def test_a_job_without_input_files_says_so(tmp_path):
    async def scenario():
        async with serving() as fake:
            await BatchCase(tmp_path, fake.address, [("a", workflow(1))]).run()

    asyncio.run(scenario())
    assert read_record(tmp_path / "0001-a" / "settings.json")["inputs"] == {}
    assert not (tmp_path / "0001-a" / "inputs").exists()


def test_a_run_whose_files_travel_brings_its_input_files_along(tmp_path):
    """As a Ray worker gives them back: what is kept then is the same as from the server itself."""
    names = ("gone.png", "start.png")

    async def scenario():
        async with serving() as fake:
            fake.uploads = {("input", "", "start.png"): b"start"}
            return await asyncio.to_thread(run_one, fake.address, loading(*names))

    made = asyncio.run(scenario())
    assert made.inputs == {"gone.png": None, "start.png": b"start"} and list(made.contents) == ["save.png"]
    inputs = keep_inputs(tmp_path, made.inputs)
    assert inputs == {"gone.png": None, "start.png": kept("inputs/2-start.png", b"start")}
    assert (tmp_path / "inputs" / "2-start.png").read_bytes() == b"start"
