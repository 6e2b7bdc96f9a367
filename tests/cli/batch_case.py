"""One client of a batch against a fake server, as the tests of its loop need it."""

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

from PIL import Image

from wan_gguf.cli.batch_collect import check_done
from wan_gguf.cli.batch_run import Runner
from wan_gguf.cli.batch_server import RemoteServer
from wan_gguf.cli.batch_stop import Stop
from wan_gguf.cli.batch_store import opened_store
from wan_gguf.cli.batch_view import BatchView
from wan_gguf.tests.cli.fake_comfy import FakeComfy, workflow

WITHIN_S = 60  # a hang is a failure, not a slow test
# the command in a process of its own, as if the environment were ready
CLIENT = """
import importlib.util, pathlib, sys
root = sys.argv[1]
spec = importlib.util.spec_from_file_location("wan_gguf", root + "/__init__.py", submodule_search_locations=[root])
sys.modules["wan_gguf"] = importlib.util.module_from_spec(spec)
from wan_gguf.cli import batch, command_batch, main
from wan_gguf.cli.preparation import Prepared
command_batch.prepare = lambda dev: Prepared(pathlib.Path(sys.executable), pathlib.Path(sys.argv[2]))
command_batch.is_active = lambda: True
batch.venv_python = lambda: pathlib.Path(sys.executable)
sys.exit(main.main(sys.argv[3:]))
"""
STATES = ("waiting", "queued", "made", "done", "failed")


@asynccontextmanager
async def serving(*behaviour):
    """A fake server that runs."""
    fake = FakeComfy(*behaviour)
    await fake.start()
    try:
        yield fake
    finally:
        await fake.stop()


def colours(count: int) -> list[tuple[str, dict]]:
    return [(f"job{number}", workflow(number)) for number in range(1, count + 1)]


class BatchCase:
    """One client: a store, a runner, what it said."""

    def __init__(self, out, address, jobs, ahead=2, patience_s=20.0):
        self.out, self.address, self.jobs, self.ahead, self.patience_s = out, address, jobs, ahead, patience_s
        self.stop = Stop(lambda text: self.said.append(text))
        self.said: list[str] = []

    async def run(self) -> None:
        view = BatchView(len(self.jobs), 0)
        view.note = self.said.append
        view.ended = lambda job, how: self.said.append(f"{job.name}: {how}")
        with opened_store(self.out) as store:
            store.sync(self.jobs)
            check_done(store, self.out)
            server = RemoteServer(self.address, self.patience_s, self.said.append)
            self.runner = Runner(store, self.out, server, view, self.stop, self.ahead)
            try:
                await asyncio.wait_for(self.runner.run(), WITHIN_S)
            finally:
                jobs = [store.job(key) for key in store.keys(*STATES)]
                self.states = {job.name: job.state for job in jobs}
                self.errors = {job.name: job.error for job in jobs if job.state == "failed"}


def check_results(batch: BatchCase, numbers) -> None:
    """Every job has one folder with its own picture, and there is no other folder."""
    folders = sorted(path.name for path in batch.out.iterdir() if path.is_dir())
    assert folders == [f"{number:04d}-job{number}" for number in numbers]
    for number in numbers:
        with Image.open(batch.out / f"{number:04d}-job{number}" / "save.png") as image:
            assert image.getpixel((0, 0)) == (0, 0, number)


def start_client(root, host_dir, log: Path, *arguments) -> subprocess.Popen:
    """`batch` with these arguments; what it says goes to `log`."""
    words = [sys.executable, "-c", CLIENT, str(root), str(host_dir), "batch", *map(str, arguments)]
    with open(log, "ab") as file:
        return subprocess.Popen(words, stdout=file, stderr=file)
