"""A batch that does not go forward ends, and says why; one whose job merely takes long is not given up."""

import asyncio
import time

import pytest
from aiohttp import web

from wan_gguf.cli import batch_api, batch_patience, batch_run
from wan_gguf.cli.batch_patience import Patience
from wan_gguf.cli.errors import CliError
from wan_gguf.tests.cli.batch_case import BatchCase, check_results, colours, serving

PATIENCE_S = 0.5


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Waiting is for real servers."""
    monkeypatch.setattr(batch_run, "SETTLE_S", 0.02)
    monkeypatch.setattr(batch_run, "LOOK_S", 0.05)
    monkeypatch.setattr(batch_patience, "PAUSES_S", (0.02,))
    monkeypatch.setattr(batch_api, "HANDSHAKE_S", 0.2)


class Clock:
    """What time.monotonic gives."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def test_pauses_grow_a_reason_is_told_once_and_it_ends_with_the_last(monkeypatch):
    monkeypatch.setattr(batch_patience, "PAUSES_S", (1.0, 4.0))
    clock, said = Clock(monkeypatch), []
    patience = Patience(10.0, "http://h", said.append)
    pauses = []
    for reason in ("a", "a", "b", "a"):
        pauses.append(patience.fault(CliError(reason)))
        clock.now += 3
    assert pauses == [1.0, 4.0, 4.0, 1.0]  # the last is what is left
    assert said == ["http://h: a; trying again, for 10 s at most", "http://h: b; trying again, for 4 s at most"]
    with pytest.raises(CliError, match=r"^http://h: c; nothing went forward for 12 s\. .*: nothing is lost$"):
        patience.fault(CliError("c"))


def test_it_counts_from_the_first_fault_after_the_last_progress(monkeypatch):
    clock, said = Clock(monkeypatch), []
    patience = Patience(10.0, "http://h", said.append)
    for _ in range(5):
        patience.fault(CliError("a"))
        clock.now += 9
        patience.progress()
        clock.now += 10_000  # a job that takes long uses none of it
    assert len(said) == 5


@pytest.mark.parametrize("kind", ["404", "200", "never", "closed"])
def test_a_proxy_that_forwards_no_websocket_is_named_when_patience_ends(tmp_path, kind):
    async def scenario():
        async with serving() as fake:

            async def proxy(request):
                if request.path != "/ws":
                    return None
                if kind == "never":
                    await asyncio.sleep(0.5)
                if kind == "closed":
                    request.transport.abort()
                return web.Response(status=200 if kind != "404" else 404, text="<html>")

            fake.proxy = proxy
            batch = BatchCase(tmp_path, fake.address, colours(2), patience_s=PATIENCE_S)
            with pytest.raises(CliError, match=r"forward websockets|no websocket"):
                await batch.run()
            assert len(batch.said) == 1 and not fake.posted

    asyncio.run(scenario())


def test_a_server_that_takes_no_jobs_ends_the_batch(tmp_path):
    async def scenario():
        async with serving() as fake:
            fake.post_faults = [429] * 1000
            batch = BatchCase(tmp_path, fake.address, colours(2), patience_s=PATIENCE_S)
            with pytest.raises(CliError, match=r"HTTP 429; nothing went forward for .* nothing is lost"):
                await batch.run()
            fake.post_faults = []
            again = BatchCase(tmp_path, fake.address, colours(2))
            await again.run()
            check_results(again, (1, 2))

    asyncio.run(scenario())


def test_a_server_that_loses_every_job_it_took_ends_the_batch(tmp_path):
    async def scenario():
        async with serving() as fake:
            fake.add = lambda prompt_id, _prompt: fake.posted.append(prompt_id)
            batch = BatchCase(tmp_path, fake.address, colours(1), patience_s=PATIENCE_S)
            with pytest.raises(CliError, match="the jobs it was given are not in its queue any more"):
                await batch.run()
            assert len(fake.posted) > 3 and batch.errors == {}

    asyncio.run(scenario())


def test_a_job_that_takes_many_times_the_patience_is_waited_for(tmp_path):
    """Without a word from the server, and with a connection that is lost now and then."""

    async def scenario():
        async with serving() as fake:
            fake.gate.clear()
            batch = BatchCase(tmp_path, fake.address, colours(2), patience_s=0.2)

            async def lose_connections():
                for _ in range(8):
                    await asyncio.sleep(0.15)
                    for socket in list(fake._sockets):
                        socket._req.transport.abort()
                fake.gate.set()

            await asyncio.gather(batch.run(), lose_connections())
            assert fake.runs == {1: 1, 2: 1}
            check_results(batch, (1, 2))

    asyncio.run(scenario())
