"""How the client's own cost grows with the number of jobs: figures for docs/scale.md, no check of speed."""

import sys
import time

import pytest

from wan_gguf.cli.batch_collect import check_done
from wan_gguf.cli.batch_files import place_folder, write_record
from wan_gguf.cli.batch_store import FILE_NAME, opened_store
from wan_gguf.cli.workflow import load_workflow, with_settings

CHANGES = 100


def jobs(count: int):
    bundled = load_workflow()
    for number in range(count):
        yield f"job{number}", with_settings(bundled, {"seed": number})


@pytest.mark.long
@pytest.mark.parametrize("count", [1_000, 10_000, 100_000])
def test_the_store_with_many_jobs(tmp_path, capsys, count):
    begin = time.perf_counter()
    with opened_store(tmp_path) as store:
        assert store.sync(jobs(count)).added == count
        taken = time.perf_counter() - begin
        keys = store.keys("waiting")
        begin = time.perf_counter()
        for key in keys[:CHANGES]:
            store.queue(key)
            store.made(key, {"save": {"images": []}}, 1.0)
            store.done(key)
        each = (time.perf_counter() - begin) / CHANGES
        for number, key in enumerate(keys[:CHANGES], start=1):
            folder = place_folder(tmp_path, number, store.job(key).name)
            folder.mkdir()
            write_record(folder, {"job": {"key": key}})
    begin = time.perf_counter()
    with opened_store(tmp_path) as store:
        assert store.sync(jobs(count)).known == count
        assert check_done(store, tmp_path) == []
        assert len(store.keys("waiting")) == count - CHANGES
    resumed = time.perf_counter() - begin
    size = (tmp_path / FILE_NAME).stat().st_size
    with capsys.disabled():
        sys.stdout.write(
            f"\n{count} jobs: list taken over in {taken:.2f} s, the three changes of a job {each * 1e3:.1f} ms, "
            f"resumed in {resumed:.2f} s, store {size / 1e6:.1f} MB\n"
        )
