"""The batch's loop when jobs fail, disks are full, and the user has had enough."""

import asyncio
import errno

import pytest

from wan_gguf.cli import batch_patience, batch_run
from wan_gguf.cli.batch_api import Api
from wan_gguf.cli.errors import CliError
from wan_gguf.tests.cli.batch_case import BatchCase, check_results, colours, serving
from wan_gguf.tests.cli.fake_comfy import workflow


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Waiting is for real servers."""
    monkeypatch.setattr(batch_run, "SETTLE_S", 0.02)
    monkeypatch.setattr(batch_patience, "PAUSES_S", (0.02,))


def test_a_job_the_server_always_answers_with_500_fails_and_the_others_are_made(tmp_path):
    async def scenario():
        async with serving() as fake:
            fake.post_faults = [500, 500, 500]
            batch = BatchCase(tmp_path, fake.address, colours(3), ahead=1)
            await batch.run()
            assert batch.states == {"job1": "failed", "job2": "done", "job3": "done"}
            assert "HTTP 500" in batch.errors["job1"]

    asyncio.run(scenario())


def test_a_job_that_ends_the_server_every_time_fails_and_the_others_are_made(tmp_path):
    async def scenario():
        async with serving(lambda prompt: "die" if prompt["image"]["inputs"]["color"] == 2 else "success") as fake:
            batch = BatchCase(tmp_path, fake.address, colours(4))
            await batch.run()
            assert batch.states == {"job1": "done", "job2": "failed", "job3": "done", "job4": "done"}
            assert batch.errors["job2"] == "the server ended while it worked on this job (tried 3 times)"

    asyncio.run(scenario())


def test_a_refused_job_fails_with_the_nodes_own_words_and_the_others_are_made(tmp_path):
    bad = workflow(2)
    bad["image"]["inputs"]["width"] = -1

    async def scenario():
        async with serving() as fake:
            jobs = [*colours(1), ("bad", bad), ("job3", workflow(3))]
            batch = BatchCase(tmp_path, fake.address, jobs)
            await batch.run()
            assert batch.states == {"job1": "done", "bad": "failed", "job3": "done"}
            refusal = "ComfyUI refused the workflow: image: width: must be 1 or more (HTTP 400)"
            assert batch.errors["bad"] == refusal

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("how", "error", "frees", "runs"),
    [
        ("error: ValueError: the shapes differ", "image (EmptyImage) failed: the shapes differ", 0, 1),
        ("error: torch.OutOfMemoryError: Allocation on device", "Allocation on device (tried 2 times)", 1, 2),
        ("hang", "the run was interrupted in ComfyUI", 0, 1),
    ],
)
def test_errors_that_do_not_pass_fail_the_job_and_memory_gets_a_second_try(tmp_path, how, error, frees, runs):
    async def scenario():
        async with serving(lambda prompt: how if prompt["image"]["inputs"]["color"] == 1 else "success") as fake:
            batch = BatchCase(tmp_path, fake.address, colours(2), ahead=1)

            async def interrupt():
                while how == "hang" and not fake.running:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.05)
                fake._interrupt.set()

            await asyncio.gather(batch.run(), interrupt())
            assert batch.states == {"job1": "failed", "job2": "done"}
            assert batch.errors["job1"].endswith(error)
            assert fake.freed == frees and len(fake.posted) == runs + 1

    asyncio.run(scenario())


def test_memory_that_is_enough_after_freeing_makes_the_job(tmp_path):
    ends = ["error: torch.OutOfMemoryError: Allocation on device"]

    async def scenario():
        async with serving(lambda _prompt: ends.pop() if ends else "success") as fake:
            batch = BatchCase(tmp_path, fake.address, colours(2))
            await batch.run()
            assert set(batch.states.values()) == {"done"} and fake.freed == 1
            check_results(batch, (1, 2))

    asyncio.run(scenario())


def test_a_full_disk_of_the_server_stops_the_batch_and_the_same_command_goes_on_when_there_is_room(tmp_path):
    async def scenario():
        async with serving(lambda _prompt: "error: OSError: [Errno 28] No space left on device") as fake:
            batch = BatchCase(tmp_path, fake.address, colours(5), ahead=4)
            with pytest.raises(CliError, match=r"No space left on device; nothing is lost: free space"):
                await batch.run()
            assert set(batch.states.values()) <= {"waiting", "queued"}
            while fake.queue or fake.running:
                await asyncio.sleep(0.01)
            fake.behave = lambda _prompt: "success"  # there is room again
            again = BatchCase(tmp_path, fake.address, colours(5), ahead=4)
            await again.run()
            check_results(again, range(1, 6))

    asyncio.run(scenario())


def test_a_full_disk_of_ours_stops_the_batch_and_the_same_command_fetches_the_rest(tmp_path, monkeypatch):
    download = Api.download

    async def full(self, entry, path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    async def scenario():
        async with serving() as fake:
            monkeypatch.setattr(Api, "download", full)
            batch = BatchCase(tmp_path, fake.address, colours(3))
            with pytest.raises(CliError, match=r"cannot be written: No space left on device; nothing is lost"):
                await batch.run()
            assert batch.states["job1"] == "made"
            assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
            monkeypatch.setattr(Api, "download", download)
            again = BatchCase(tmp_path, fake.address, colours(3))
            await again.run()
            assert fake.runs == {1: 1, 2: 1, 3: 1}
            check_results(again, range(1, 4))

    asyncio.run(scenario())


def test_files_the_server_remembers_but_has_lost_are_made_again_elsewhere(tmp_path):
    async def scenario():
        async with serving() as fake:
            save, lost = fake._save, []

            def save_and_lose(prompt):
                outputs = save(prompt)
                if not lost:
                    lost.append(fake.files.popitem())
                return outputs

            fake._save = save_and_lose
            batch = BatchCase(tmp_path, fake.address, colours(2), ahead=1)
            await batch.run()
            check_results(batch, (1, 2))
            assert fake.runs == {1: 2, 2: 1}
            assert len({subfolder for subfolder, _ in fake.files}) == 2
            ((lost_subfolder, _), _) = lost[0]
            assert f"{lost_subfolder}-2" in {subfolder for subfolder, _ in fake.files}

    asyncio.run(scenario())


def test_a_picture_that_was_cut_off_is_made_again(tmp_path):
    async def scenario():
        async with serving() as fake:
            save, cut = fake._save, []

            def save_half(prompt):
                outputs = save(prompt)
                if not cut:
                    place = next(iter(fake.files))
                    cut.append(place)
                    fake.files[place] = fake.files[place][:40]
                return outputs

            fake._save = save_half
            batch = BatchCase(tmp_path, fake.address, colours(2))
            await batch.run()
            check_results(batch, (1, 2))

    asyncio.run(scenario())


def test_a_workflow_that_saves_nothing_is_told_so(tmp_path):
    def saving_nothing(prompt):
        prompt["save"]["inputs"].pop("filename_prefix")
        return "success"

    async def scenario():
        async with serving(saving_nothing) as fake:
            fake._save = lambda prompt: {"image": {"text": ["shown"]}}
            batch = BatchCase(tmp_path, fake.address, colours(1))
            await batch.run()
            assert "saved no files" in batch.errors["job1"]

    asyncio.run(scenario())


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_takes_back_only_our_own_and_ends_or_interrupts_what_runs(tmp_path, times):
    """Once: the running job ends and is kept. Twice: it is interrupted and waits. Others' jobs stay in the queue."""

    async def scenario():
        async with serving(lambda _prompt: "hang") as fake:
            batch = BatchCase(tmp_path, fake.address, colours(4), ahead=3)

            async def user():
                while len(fake.posted) < 3:
                    await asyncio.sleep(0.005)
                fake.add("11111111-1111-1111-1111-111111111111", workflow(99))
                for _ in range(times):
                    batch.stop.count += 1
                    batch.stop.poke()
                    while times == 2 and batch.stop.count == 1 and len(fake.queue) > 1:
                        await asyncio.sleep(0.005)
                if times == 1:
                    while not batch.said:
                        await asyncio.sleep(0.005)
                    fake.behave = lambda _prompt: "success"
                    assert batch.said == ["finishing the job that runs; Ctrl-C again interrupts it"]
                    fake._interrupt.set()

            fake._execute = _ending_when_released(fake, fake._execute, lambda: times == 1)
            await asyncio.gather(batch.run(), user())
            assert "11111111-1111-1111-1111-111111111111" in [item[1] for item in [*fake.queue, fake.running] if item]
            wanted = {"job1": "done" if times == 1 else "waiting", **dict.fromkeys(("job2", "job3", "job4"), "waiting")}
            assert batch.states == wanted

    asyncio.run(scenario())


def _ending_when_released(fake, execute, ends_well):
    """Runs wait for the event that also interrupts; released, they end well if `ends_well()`."""

    async def run(prompt_id, prompt):
        if not ends_well():
            await execute(prompt_id, prompt)
            return
        fake._interrupt.clear()
        await fake.send("execution_start", prompt_id=prompt_id, timestamp=0)
        await fake._interrupt.wait()
        await execute(prompt_id, prompt)

    return run


def test_a_folder_that_is_somebody_elses_is_never_replaced(tmp_path):
    (tmp_path / "0001-job1").mkdir()
    (tmp_path / "0001-job1" / "mine.txt").write_text("mine")

    async def scenario():
        async with serving() as fake:
            batch = BatchCase(tmp_path, fake.address, colours(1))
            with pytest.raises(CliError, match="0001-job1 exists and is not this job's result"):
                await batch.run()

    asyncio.run(scenario())
    assert [path.name for path in (tmp_path / "0001-job1").iterdir()] == ["mine.txt"]
