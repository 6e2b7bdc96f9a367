"""One file that cannot be fetched, from a server that answers: it holds up no other job, nor goes on for ever."""

import asyncio

import pytest
from aiohttp import web

from wan_gguf.cli import batch_held, batch_patience, batch_run
from wan_gguf.tests.cli.batch_case import BatchCase, check_results, colours, serving
from wan_gguf.tests.cli.fake_comfy import png


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Waiting is for real servers."""
    monkeypatch.setattr(batch_run, "SETTLE_S", 0.02)
    monkeypatch.setattr(batch_patience, "PAUSES_S", (0.02,))
    monkeypatch.setattr(batch_held, "PAUSES_S", (0.1,) * 3)


def failing(fake, kind: str, is_bad):
    """/view of the first job's picture fails, where `is_bad(its place)`; `places` are those asked for."""
    places: list[str] = []

    async def proxy(request):
        if request.path != "/view" or request.method != "GET":
            return None
        place = request.query["subfolder"]
        if fake.files.get((place, request.query["filename"])) != png(1):
            return None
        places.append(place)
        if not is_bad(place):
            return None
        if kind == "cut off":
            answer = web.StreamResponse(headers={"Content-Length": "100000"})
            await answer.prepare(request)
            await answer.write(b"x" * 5000)
            request.transport.abort()
            return answer
        return web.Response(status=int(kind), text="<html>")

    fake.proxy = proxy
    return places


@pytest.mark.parametrize("kind", ["500", "404", "524", "cut off"])
def test_it_is_tried_later_and_then_made_again_while_the_others_go_on(tmp_path, kind):
    async def scenario():
        async with serving() as fake:
            places = failing(fake, kind, lambda place: place == places[0])
            batch = BatchCase(tmp_path, fake.address, colours(4), patience_s=5.0)
            await batch.run()
            assert places.count(places[0]) == 1 + len(batch_held.PAUSES_S) and len(places) == 5
            assert fake.runs == {1: 2, 2: 1, 3: 1, 4: 1}
            check_results(batch, range(1, 5))
            assert batch.said.index("job1: done") > batch.said.index("job4: done")

    asyncio.run(scenario())


def test_a_picture_that_can_never_be_fetched_fails_its_job_only(tmp_path):
    async def scenario():
        async with serving() as fake:
            failing(fake, "500", lambda place: True)
            batch = BatchCase(tmp_path, fake.address, colours(3), patience_s=5.0)
            await batch.run()
            assert batch.states == {"job1": "failed", "job2": "done", "job3": "done"}
            assert "its files could not be fetched: ComfyUI answered HTTP 500" in batch.errors["job1"]
            assert "(tried 3 times)" in batch.errors["job1"]

    asyncio.run(scenario())


def test_ctrl_c_does_not_wait_for_it_and_the_same_command_fetches_it(tmp_path, monkeypatch):
    monkeypatch.setattr(batch_held, "PAUSES_S", (3600.0,))

    async def scenario():
        async with serving() as fake:
            bad = [True]
            failing(fake, "500", lambda place: bad[0])
            batch = BatchCase(tmp_path, fake.address, colours(2), patience_s=5.0)

            async def user():
                while "job2: done" not in batch.said:
                    await asyncio.sleep(0.01)
                batch.stop.count += 1
                batch.stop.poke()

            await asyncio.gather(batch.run(), user())
            assert batch.states == {"job1": "made", "job2": "done"}
            bad[0] = False
            again = BatchCase(tmp_path, fake.address, colours(2))
            await again.run()
            assert fake.runs == {1: 1, 2: 1}
            check_results(again, (1, 2))

    asyncio.run(scenario())
