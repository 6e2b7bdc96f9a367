"""The batch's loop against a server that comes, goes and forgets: nothing is lost, nothing is made twice."""

import asyncio
import json
import shutil

import pytest

from wan_gguf.cli import batch_patience, batch_run
from wan_gguf.cli.errors import CliError
from wan_gguf.cli.record_form import read_record
from wan_gguf.tests.cli.batch_case import BatchCase, check_results, colours, serving
from wan_gguf.tests.cli.fake_comfy import workflow


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Waiting is for real servers."""
    monkeypatch.setattr(batch_run, "SETTLE_S", 0.02)
    monkeypatch.setattr(batch_patience, "PAUSES_S", (0.02,))


def test_every_job_is_run_once_and_gets_a_folder_with_pictures_and_record(tmp_path):
    async def scenario():
        async with serving() as fake:
            batch = BatchCase(tmp_path, fake.address, [*colours(5), ("many", workflow(6, images=3))])
            await batch.run()
            assert fake.runs == dict.fromkeys(range(1, 7), 1)
            assert set(batch.states.values()) == {"done"}
            return batch

    batch = asyncio.run(scenario())
    check_results_of = [path.name for path in sorted((tmp_path / "0006-many" / "save").iterdir())]
    assert check_results_of == ["0001.png", "0002.png", "0003.png"]
    record = json.loads((tmp_path / "0002-job2" / "settings.json").read_text(encoding="utf-8"))
    assert record["workflow"]["image"] == workflow(2)["image"]
    assert record["workflow"]["save"]["inputs"]["filename_prefix"].startswith("wan_gguf_batch/")
    assert record["versions"]["comfyui"] == "fake" and record["device"] == "cpu"
    assert len(record["frames_sha256"]) == 64 and list(record["files"]) == ["save.png"]
    assert record["job"]["number"] == 2 and record["job"]["run_s"] == 0.5
    assert (tmp_path / "0002-job2" / "sheet.png").is_file()
    assert read_record(tmp_path / "0002-job2" / "settings.json") == record  # `verify` takes it
    assert batch.said[0] == "job1: done"


@pytest.mark.parametrize("faults", [["drop"], ["accept and drop"], [503], [500], ["accept and drop", "drop", 502]])
def test_a_request_that_is_cut_off_is_neither_lost_nor_sent_twice(tmp_path, faults):
    async def scenario():
        async with serving() as fake:
            fake.post_faults = list(faults)
            batch = BatchCase(tmp_path, fake.address, colours(4))
            await batch.run()
            assert fake.runs == dict.fromkeys(range(1, 5), 1)
            check_results(batch, range(1, 5))

    asyncio.run(scenario())


def test_a_server_behind_a_proxy_that_is_away_for_a_while_is_waited_for(tmp_path):
    async def scenario():
        async with serving() as fake:
            fake.status = 502
            batch = BatchCase(tmp_path, fake.address, colours(2))

            async def come_back():
                while not any("trying again" in text for text in batch.said):
                    await asyncio.sleep(0.01)
                fake.status = None

            await asyncio.gather(batch.run(), come_back())
            check_results(batch, range(1, 3))

    asyncio.run(scenario())


def test_when_patience_ends_the_error_says_that_nothing_is_lost(tmp_path):
    async def scenario():
        async with serving() as fake:
            address = fake.address
        with pytest.raises(CliError, match=r"(?s)http://127.0.0.1:\d+: .*same command again: nothing is lost"):
            await BatchCase(tmp_path, address, colours(2), patience_s=0.1).run()

    asyncio.run(scenario())


def test_a_server_restart_loses_no_job_and_repeats_none_that_was_done(tmp_path):
    deaths = [3, 5]

    def behave(prompt):
        color = prompt["image"]["inputs"]["color"]
        if color in deaths:
            deaths.remove(color)
            return "die"
        return "success"

    async def scenario():
        async with serving(behave) as fake:
            batch = BatchCase(tmp_path, fake.address, colours(8), ahead=3)
            await batch.run()
            assert set(batch.states.values()) == {"done"}
            # what ended a moment before a death, unseen, cannot be told from what was cut off: one job a death
            assert sum(fake.runs.values()) <= 8 + 2
            check_results(batch, range(1, 9))

    asyncio.run(scenario())


def test_a_killed_client_finds_what_the_server_made_without_it(tmp_path):
    async def scenario():
        async with serving() as fake:

            def close_the_gate_in_the_second(_prompt):
                if fake.runs[1]:
                    fake.gate.clear()
                return "success"

            fake.behave = close_the_gate_in_the_second
            first = BatchCase(tmp_path, fake.address, colours(8), ahead=4)
            task = asyncio.create_task(first.run())
            while sum(fake.runs.values()) < 2 or len(fake.posted) < 5:
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            fake.behave = lambda prompt: "success"
            fake.gate.set()
            while fake.queue or fake.running:
                await asyncio.sleep(0.01)
            assert "queued" in first.states.values()
            second = BatchCase(tmp_path, fake.address, colours(8), ahead=4)
            await second.run()
            assert fake.runs == dict.fromkeys(range(1, 9), 1)
            check_results(second, range(1, 9))

    asyncio.run(scenario())


def test_what_client_and_server_both_forgot_is_found_among_the_servers_files(tmp_path):
    """Client killed, server ends the jobs, server killed: the last job cannot be told from one that was cut off."""

    async def scenario():
        async with serving() as fake:
            fake.gate.clear()
            task = asyncio.create_task(BatchCase(tmp_path, fake.address, colours(4), ahead=4).run())
            while len(fake.posted) < 4:
                await asyncio.sleep(0.005)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            fake.gate.set()
            while fake.queue or fake.running:
                await asyncio.sleep(0.01)
            await fake.restart()
            batch = BatchCase(tmp_path, fake.address, colours(4), ahead=4)
            await batch.run()
            assert fake.runs == {1: 1, 2: 1, 3: 1, 4: 2}
            check_results(batch, range(1, 5))

    asyncio.run(scenario())


def test_without_messages_the_history_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(batch_run, "LOOK_S", 0.05)

    async def scenario():
        async with serving() as fake:
            fake.silent = True
            batch = BatchCase(tmp_path, fake.address, colours(3))
            await batch.run()
            assert fake.runs == {1: 1, 2: 1, 3: 1}
            check_results(batch, range(1, 4))

    asyncio.run(scenario())


def test_a_job_somebody_took_out_of_the_queue_is_put_there_again(tmp_path, monkeypatch):
    monkeypatch.setattr(batch_run, "LOOK_S", 0.05)

    async def scenario():
        async with serving() as fake:
            fake.gate.clear()
            batch = BatchCase(tmp_path, fake.address, colours(3), ahead=3)

            async def somebody():
                while len(fake.posted) < 3:
                    await asyncio.sleep(0.005)
                fake.queue.clear()
                fake.gate.set()

            await asyncio.gather(batch.run(), somebody())
            check_results(batch, range(1, 4))

    asyncio.run(scenario())


def test_equal_jobs_are_run_once_and_each_row_gets_its_folder(tmp_path):
    jobs = [("job1", workflow(1)), ("job2", workflow(2)), ("twin", workflow(1))]

    async def scenario():
        async with serving() as fake:
            await BatchCase(tmp_path, fake.address, jobs).run()
            assert fake.runs == {1: 1, 2: 1}
            assert (tmp_path / "0001-job1" / "save.png").read_bytes() == (
                tmp_path / "0003-twin" / "save.png"
            ).read_bytes()
            later = BatchCase(tmp_path, fake.address, [*jobs, ("triplet", workflow(1))])
            await later.run()
            assert fake.runs == {1: 1, 2: 1}
            assert (tmp_path / "0004-triplet" / "save.png").is_file()

    asyncio.run(scenario())


def test_a_result_that_was_deleted_is_made_again(tmp_path):
    async def scenario():
        async with serving() as fake:
            await BatchCase(tmp_path, fake.address, colours(2)).run()
            shutil.rmtree(tmp_path / "0002-job2")
            batch = BatchCase(tmp_path, fake.address, colours(2))
            await batch.run()
            check_results(batch, (1, 2))

    asyncio.run(scenario())
