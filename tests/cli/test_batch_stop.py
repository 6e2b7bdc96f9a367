"""Work that ends early when the user has had enough."""

import asyncio

import pytest

from wan_gguf.cli import batch_patience
from wan_gguf.cli.batch_server import RemoteServer
from wan_gguf.cli.batch_stop import Stop
from wan_gguf.tests.cli.batch_case import WITHIN_S


def test_work_that_nobody_stops_gives_what_it_gives():
    async def fail():
        raise ValueError("its own")

    stop = Stop(print)
    assert asyncio.run(stop.unless_asked(asyncio.sleep(0.01, "done"))) == "done"
    with pytest.raises(ValueError, match="its own"):
        asyncio.run(stop.unless_asked(fail()))


@pytest.mark.parametrize(("times", "asked"), [(1, 1), (2, 2)])
def test_work_is_cancelled_when_the_user_asks(times, asked):
    async def scenario():
        stop, ended = Stop(print), []

        async def work():
            try:
                await asyncio.sleep(3600)
            finally:
                ended.append(True)

        waiting = asyncio.create_task(stop.unless_asked(work(), times))
        await asyncio.sleep(0.02)
        stop.count = asked
        assert await asyncio.wait_for(waiting, WITHIN_S) is None and ended == [True]

    asyncio.run(scenario())


def test_work_goes_on_when_the_user_has_not_asked_often_enough_or_it_has_heard_it():
    async def scenario():
        stop, heard = Stop(print), []
        stop.count = 1
        assert await stop.unless_asked(asyncio.sleep(0.3, "done"), times=2) == "done"
        stop.count = 2

        async def work():
            await asyncio.sleep(0.15)
            heard.append(True)
            return await asyncio.sleep(0.5, "done")

        assert await stop.unless_asked(work(), 2, grace_s=0.4, is_heard=lambda: bool(heard)) == "done"

    asyncio.run(scenario())


def test_waiting_for_a_server_that_is_away_ends_when_the_user_asks(monkeypatch):
    monkeypatch.setattr(batch_patience, "PAUSES_S", (3600.0,))

    async def scenario():
        stop, said = Stop(print), []
        waiting = asyncio.create_task(RemoteServer("http://127.0.0.1:9", 1e6, said.append).ready(stop))
        while not said:
            await asyncio.sleep(0.01)
        stop.count += 1
        assert await asyncio.wait_for(waiting, WITHIN_S) is None

    asyncio.run(scenario())
