"""From a server's files to folders: odd files end no batch; folders that are complete are known without a store."""

import asyncio
import json
import shutil

import pytest
from PIL import Image

from wan_gguf.cli import batch_run
from wan_gguf.cli.batch_collect import check_done
from wan_gguf.cli.batch_files import PREFIX, SERVER_OUTPUT
from wan_gguf.cli.batch_store import FILE_NAME, opened_store
from wan_gguf.cli.errors import CliError
from wan_gguf.cli.record_form import read_record
from wan_gguf.tests.cli.batch_case import BatchCase, check_results, colours, serving
from wan_gguf.tests.cli.fake_comfy import png, workflow
from wan_gguf.tests.cli.test_batch_pictures import sound


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Waiting is for real servers."""
    monkeypatch.setattr(batch_run, "SETTLE_S", 0.02)


def save_odd(fake, end: str, content: bytes) -> None:
    """The job of colour 1 is saved as that file; the others are as always."""
    save = fake._save

    def saving(prompt: dict) -> dict:
        if prompt["image"]["inputs"]["color"] != 1:
            return save(prompt)
        fake.runs[1] += 1
        subfolder, _, name = prompt["save"]["inputs"]["filename_prefix"].rpartition("/")
        fake.files[subfolder, f"{name}_00001_{end}"] = content
        return {"save": {"images": [{"filename": f"{name}_00001_{end}", "subfolder": subfolder, "type": "output"}]}}

    fake._save = saving


def run_odd(out, end: str, content: bytes) -> BatchCase:
    """Three jobs, the first with that file."""

    async def scenario():
        async with serving() as fake:
            save_odd(fake, end, content)
            batch = BatchCase(out, fake.address, colours(3), ahead=1)
            await batch.run()
            batch.runs = dict(fake.runs)
            return batch

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    ("end", "content"),
    [
        (".gif", b"GIF89a"),
        (".mp4", b"\0" * 500),
        (".webm", bytes.fromhex("1a45dfa3") + b"\x9f" + b"\0" * 60),
        (".png", png(1)[:45]),
        (".png", png(1).replace(b"IDAT", b"I\xb4AT")),
    ],
    ids=["gif", "mp4", "webm", "cut png", "broken png"],
)
def test_a_damaged_file_fails_its_job_only(tmp_path, end, content):
    batch = run_odd(tmp_path, end, content)
    assert batch.states == {"job1": "failed", "job2": "done", "job3": "done"}
    assert batch.errors["job1"].startswith(f"save{end}: ") and batch.errors["job1"].endswith("(tried 3 times)")
    assert batch.runs == {1: 3, 2: 1, 3: 1}


def test_a_sound_file_that_cannot_be_drawn_has_a_folder_without_a_sheet(tmp_path):
    content = sound(tmp_path / "sound.mp4").read_bytes()
    batch = run_odd(tmp_path / "out", ".mp4", content)
    assert set(batch.states.values()) == {"done"} and batch.runs[1] == 1
    folder = tmp_path / "out" / "0001-job1"
    assert (folder / "save.mp4").read_bytes() == content and not (folder / "sheet.png").exists()
    assert list(read_record(folder / "settings.json")["files"]) == ["save.mp4"]
    assert "0001-job1: no contact sheet: save.mp4 has sound, but no pictures" in batch.said


def test_a_sound_picture_that_is_too_large_has_a_folder_without_sheet_and_hash_of_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # twice that is refused
    batch = run_odd(tmp_path, ".png", png(1, 200))
    assert set(batch.states.values()) == {"done"} and batch.runs[1] == 1
    record = read_record(tmp_path / "0001-job1" / "settings.json")
    assert (record["frames_sha256"], record["frame_hashes"], list(record["files"])) == (None, None, ["save.png"])
    assert not (tmp_path / "0001-job1" / "sheet.png").exists()
    reason = "save.png is too large to be read as a picture"
    assert batch.said[:2] == [f"0001-job1: no contact sheet: {reason}", f"0001-job1: no hash of its frames: {reason}"]
    assert (tmp_path / "0002-job2" / "sheet.png").exists()


def test_two_nodes_whose_names_look_alike_keep_both_files(tmp_path):
    made = workflow(1)
    made["保存"], made["sheet"] = made["save"], made.pop("save")

    async def scenario():
        async with serving() as fake:
            await BatchCase(tmp_path, fake.address, [("job1", made)]).run()

    asyncio.run(scenario())
    record = read_record(tmp_path / "0001-job1" / "settings.json")
    assert list(record["files"]) == ["sheet_.png", "保存.png"]
    with Image.open(tmp_path / "0001-job1" / "sheet.png") as sheet:
        assert sheet.width > 100  # the contact sheet


def remove_store(out) -> None:
    (out / FILE_NAME).unlink()


def empty_store(out) -> None:
    (out / FILE_NAME).write_bytes(b"")


@pytest.mark.parametrize("lose", [remove_store, empty_store])
def test_without_its_store_a_batch_knows_its_results_by_their_folders(tmp_path, lose):
    async def scenario():
        async with serving() as fake:
            jobs = [*colours(3), ("twin", workflow(1))]
            await BatchCase(tmp_path, fake.address, jobs).run()
            lose(tmp_path)
            shutil.rmtree(tmp_path / "0004-twin")
            shutil.rmtree(tmp_path / "0002-job2")
            fake.runs.clear()
            again = BatchCase(tmp_path, fake.address, jobs)
            await again.run()
            assert fake.runs == {2: 1}
            assert set(again.states.values()) == {"done"}
            assert (tmp_path / "0004-twin" / "save.png").is_file()

    asyncio.run(scenario())


def test_how_many_are_taken_over_is_said(tmp_path):
    async def scenario():
        async with serving() as fake:
            await BatchCase(tmp_path, fake.address, colours(3)).run()

    asyncio.run(scenario())
    remove_store(tmp_path)
    with opened_store(tmp_path) as store:
        store.sync(colours(3))
        (note,) = check_done(store, tmp_path)
        assert note == f"taken over: 3 results found in {tmp_path}; to have one made again, delete its folder"
        assert store.counts()["done"] == 3 and check_done(store, tmp_path) == []


@pytest.mark.parametrize("state", ["queued", "made"])
def test_a_kill_between_a_folder_and_the_store_has_nothing_made_again(tmp_path, state):
    """Nor fetched: with Ray the server has ended with the client. Copies of a server of our own are removed."""

    async def scenario():
        async with serving() as fake:
            await BatchCase(tmp_path, fake.address, colours(2)).run()

    asyncio.run(scenario())
    with opened_store(tmp_path) as store:
        key = store.keys("done")[1]
        store.queue(key)
        if state == "made":
            store.made(key, {"save": {"images": []}})
        copies = [tmp_path / SERVER_OUTPUT / PREFIX / f"{part}-{store.mark}" for part in (key[:16], "another")]
        for folder in copies:
            folder.mkdir(parents=True)
        (note,) = check_done(store, tmp_path)
        assert note.startswith("taken over: 1 results") and store.counts()["done"] == 2
        assert [folder.exists() for folder in copies] == [False, True]


@pytest.mark.parametrize("record", [None, "{", json.dumps({"job": {"key": "another"}})])
def test_a_folder_that_does_not_tell_whose_it_is_is_not_taken_over_and_named_before_anything_is_run(tmp_path, record):
    async def scenario():
        async with serving() as fake:
            await BatchCase(tmp_path, fake.address, colours(2)).run()

    asyncio.run(scenario())
    remove_store(tmp_path)
    settings = tmp_path / "0002-job2" / "settings.json"
    settings.unlink()
    if record is not None:
        settings.write_text(record, encoding="utf-8")
    with opened_store(tmp_path) as store:
        store.sync(colours(2))
        with pytest.raises(CliError, match=r"0002-job2 exists and is not this job's result; .*nothing was queued"):
            check_done(store, tmp_path)
        assert [store.job(key).name for key in store.keys("waiting")] == ["job2"]
        (tmp_path / "0002-job2").rename(tmp_path / "away")
        assert check_done(store, tmp_path) == []


def test_what_has_taken_a_results_place_is_named_before_it_is_made_again(tmp_path):
    async def scenario():
        async with serving() as fake:
            await BatchCase(tmp_path, fake.address, colours(2)).run()

    asyncio.run(scenario())
    (tmp_path / "0001-job1" / "settings.json").write_text("mine", encoding="utf-8")
    shutil.rmtree(tmp_path / "0002-job2")
    with opened_store(tmp_path) as store:
        store.sync(colours(2))
        with pytest.raises(CliError, match="0001-job1 exists and is not this job's result"):
            check_done(store, tmp_path)
        assert len(store.keys("waiting")) == 2


def test_a_store_put_back_from_a_copy_learns_what_was_done_since(tmp_path):
    """The copy says that a job is on the server; its folder says that it is done."""

    async def scenario():
        async with serving() as fake:
            batch = BatchCase(tmp_path, fake.address, colours(2))
            with opened_store(tmp_path) as store:
                store.sync(batch.jobs)
                store.queue(store.keys("waiting")[0])
            shutil.copy(tmp_path / FILE_NAME, tmp_path / "copy")
            await batch.run()
            shutil.copy(tmp_path / "copy", tmp_path / FILE_NAME)
            (tmp_path / "copy").unlink()
            fake.runs.clear()
            await BatchCase(tmp_path, fake.address, colours(2)).run()
            assert fake.runs == {}
            check_results(batch, (1, 2))

    asyncio.run(scenario())
