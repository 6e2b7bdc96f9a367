"""What a server left half when it was killed is never taken for a result; what it had finished is found."""

import asyncio
import io

import pytest
from PIL import Image

from wan_gguf.cli import batch_run
from wan_gguf.cli.batch_files import posted_workflow
from wan_gguf.cli.batch_recover import SAVERS
from wan_gguf.cli.batch_store import opened_store
from wan_gguf.tests.cli.batch_case import BatchCase, check_results, colours, serving
from wan_gguf.tests.cli.fake_comfy import workflow

ENDS = [(class_type, end) for class_type, saver in SAVERS.items() for end in saver.ends]
WHOLE_AT_ONCE = "WanGGUFSaveVideo"  # its files get their names when they are complete (tests/host)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Waiting is for real servers."""
    monkeypatch.setattr(batch_run, "SETTLE_S", 0.02)


def animated(end: str) -> bytes:
    """Twenty frames of noise, as a node would save them with that ending."""
    frames = [Image.effect_noise((64, 64), 60).convert("RGB") for _ in range(20)]
    buffer = io.BytesIO()
    if end in (".png", ".webp"):
        frames[0].save(buffer, end[1:].upper(), save_all=True, append_images=frames[1:], duration=60)
        return buffer.getvalue()
    import av

    codec = {".webm": "libvpx-vp9"}.get(end, "libx264")
    with av.open(buffer, "w", format={".mkv": "matroska"}.get(end, end[1:])) as container:
        stream = container.add_stream(codec, rate=16)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())
    return buffer.getvalue()


def saving(class_type: str) -> dict:
    made = workflow(1)
    made["save"]["class_type"] = class_type
    return made


class Files:
    """What the server's saving node writes, and where it does."""

    def __init__(self, fake, end: str):
        self.fake, self.end, self.content, self.runs = fake, end, animated(end), 0
        fake._save = self.save

    def place(self, prompt: dict) -> tuple[str, str]:
        subfolder, _, name = prompt["save"]["inputs"]["filename_prefix"].rpartition("/")
        return subfolder, f"{name}_00001_{self.end}"

    def save(self, prompt: dict) -> dict:
        self.runs += 1
        subfolder, filename = place = self.place(prompt)
        self.fake.files[place] = self.content
        return {"save": {"images": [{"filename": filename, "subfolder": subfolder, "type": "output"}]}}


def lost(out, job: dict) -> dict:
    """What a client leaves that was killed between storing an id and sending it: returns what it would have sent."""
    with opened_store(out) as store:
        store.sync([("job1", job)])
        (key,) = store.keys("waiting")
        store.queue(key)
        return posted_workflow(store.job(key))


@pytest.mark.parametrize(("class_type", "end"), [pair for pair in ENDS if pair[0] != WHOLE_AT_ONCE])
def test_a_file_that_was_cut_off_with_its_server_is_made_again(tmp_path, class_type, end):
    async def scenario():
        async with serving() as fake:
            files = Files(fake, end)
            posted = lost(tmp_path, saving(class_type))
            fake.files[files.place(posted)] = files.content[: len(files.content) // 2]
            batch = BatchCase(tmp_path, fake.address, [("job1", saving(class_type))])
            await batch.run()
            assert batch.states == {"job1": "done"} and files.runs == 1
            kept = [path for path in (tmp_path / "0001-job1").iterdir() if path.suffix == end]
            assert files.content in [path.read_bytes() for path in kept]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("class_type", "end"), [(class_type, end) for class_type, end in ENDS if end in SAVERS[class_type].telling]
)
def test_a_complete_file_whose_reading_tells_that_it_is_one_is_found(tmp_path, class_type, end):
    async def scenario():
        async with serving() as fake:
            files = Files(fake, end)
            fake.files[files.place(lost(tmp_path, saving(class_type)))] = files.content
            batch = BatchCase(tmp_path, fake.address, [("job1", saving(class_type))])
            await batch.run()
            assert batch.states == {"job1": "done"} and files.runs == 0
            assert (tmp_path / "0001-job1" / f"save{end}").read_bytes() == files.content

    asyncio.run(scenario())


@pytest.mark.parametrize("later", [False, True])
def test_without_a_trace_of_a_later_job_a_series_is_made_again(tmp_path, later):
    """A client is killed with two jobs on the server, the server afterwards: in the second job or before it began."""

    async def scenario():
        async with serving() as fake:
            with opened_store(tmp_path) as store:
                store.sync(colours(2))
                first, second = store.keys("waiting")
                for key in (first, second):
                    store.queue(key)
                for key in (first, second) if later else (first,):
                    fake._save(posted_workflow(store.job(key)))
            fake.runs.clear()
            batch = BatchCase(tmp_path, fake.address, colours(2))
            await batch.run()
            check_results(batch, (1, 2))
            assert fake.runs == ({2: 1} if later else {1: 1, 2: 1})

    asyncio.run(scenario())


def test_another_batchs_files_on_the_same_server_are_never_this_ones_result(tmp_path):
    """The same list with another --out, after a start image or a model was replaced: the workflows are equal."""

    async def scenario():
        async with serving() as fake:
            first = BatchCase(tmp_path / "first", fake.address, colours(3))
            await first.run()
            assert len(fake.files) == 3
            fake.runs.clear()
            second = BatchCase(tmp_path / "second", fake.address, colours(3))
            with opened_store(second.out) as store:
                store.sync(second.jobs)
                for key in store.keys("waiting"):
                    store.queue(key)  # and never sent
            await second.run()
            assert fake.runs == {1: 1, 2: 1, 3: 1} and len(fake.files) == 6
            check_results(second, (1, 2, 3))

    asyncio.run(scenario())
