"""The loop of a batch while its server is away behind a proxy, or loses what waited: no job is blamed or run twice."""

import asyncio
from types import SimpleNamespace

import pytest
from aiohttp import web

from wan_gguf.cli import batch_held, batch_patience, batch_run
from wan_gguf.cli.batch_run import Runner
from wan_gguf.tests.cli.batch_case import BatchCase, check_results, colours, serving
from wan_gguf.tests.cli.fake_comfy import workflow


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Waiting is for real servers."""
    monkeypatch.setattr(batch_run, "SETTLE_S", 0.02)
    monkeypatch.setattr(batch_patience, "PAUSES_S", (0.02,))


@pytest.mark.parametrize("status", [404, 429, 521])
@pytest.mark.parametrize("path", ["/prompt", "/queue", "/history", "/view", "/ws", "/system_stats", "/"])
def test_a_proxy_whose_server_is_away_for_a_while_costs_no_job_and_no_run(tmp_path, monkeypatch, path, status):
    """After the first job, it answers requests for that path itself, often enough to fail every job three times."""
    monkeypatch.setattr(batch_held, "PAUSES_S", (0.02,) * 40)
    monkeypatch.setattr(batch_run, "LOOK_S", 0.05)
    left = [20]

    async def scenario():
        async with serving() as fake:

            async def proxy(request):
                if fake.history and left[0] and request.path.startswith(path):
                    left[0] -= 1
                    return web.Response(status=status, text="<html>", content_type="text/html")

            fake.proxy = proxy
            fake.silent = path in ("/queue", "/history")  # so that these are asked
            batch = BatchCase(tmp_path, fake.address, colours(4))
            await batch.run()
            assert fake.runs == dict.fromkeys(range(1, 5), 1)
            check_results(batch, range(1, 5))

    asyncio.run(scenario())
    assert left == [0] or path in ("/ws", "/system_stats")  # those are asked on a new connection only


@pytest.mark.parametrize("fault", ["drop", 429, 503])
def test_jobs_that_never_reached_the_server_are_not_blamed_for_its_absence(tmp_path, fault):
    async def scenario():
        async with serving() as fake:
            fake.post_faults = [fault] * 12
            batch = BatchCase(tmp_path, fake.address, colours(3))
            await batch.run()
            assert fake.runs == dict.fromkeys(range(1, 4), 1) and not fake.post_faults
            check_results(batch, range(1, 4))

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("seen", "restarted", "runs_now", "blamed"),
    [
        ("b", False, [], "b"),
        ("b", True, [], "b"),
        (None, False, [], None),
        (None, True, [], "a"),  # our own server runs only ours, in order
        (None, True, ["a"], None),
        ("of somebody else", True, [], "a"),
    ],
)
def test_who_is_blamed_for_a_servers_end(seen, restarted, runs_now, blamed):
    runner = SimpleNamespace(_running=seen, _starts=1, server=SimpleNamespace(starts=2 if restarted else 1))
    assert Runner._suspect(runner, ["a", "b"], runs_now) == blamed


def test_a_queue_that_somebody_clears_again_and_again_fails_no_job(tmp_path, monkeypatch):
    monkeypatch.setattr(batch_run, "LOOK_S", 0.05)

    async def scenario():
        async with serving() as fake:
            fake.gate.clear()
            fake.add("11111111-1111-1111-1111-111111111111", workflow(99))
            batch = BatchCase(tmp_path, fake.address, colours(3))

            async def somebody():
                for times in range(1, 6):
                    while len(fake.posted) < 1 + 2 * times:
                        await asyncio.sleep(0.005)
                    fake.queue.clear()
                fake.gate.set()

            await asyncio.gather(batch.run(), somebody())
            assert fake.runs == {99: 1, 1: 1, 2: 1, 3: 1}
            check_results(batch, range(1, 4))

    asyncio.run(scenario())
