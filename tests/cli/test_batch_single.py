"""One workflow on a server of one's own, as a Ray worker runs it: whatever hangs, it ends."""

import asyncio
import json

import pytest

from wan_gguf.cli import batch_api, batch_ray_parts
from wan_gguf.cli.batch_ray_parts import NodeServer
from wan_gguf.cli.batch_single import run_one
from wan_gguf.cli.client import ServerGoneError
from wan_gguf.tests.cli.batch_case import serving
from wan_gguf.tests.cli.fake_comfy import png, workflow


def test_it_brings_the_files_of_the_run_along():
    async def scenario():
        async with serving() as fake:
            return await asyncio.to_thread(run_one, fake.address, workflow(3))

    made = asyncio.run(scenario())
    assert made.failure is None and made.contents == {"save.png": png(3)}


@pytest.mark.parametrize("path", ["/ws", "/history"])
def test_a_server_that_says_nothing_more_is_gone(monkeypatch, path):
    monkeypatch.setattr(batch_api, "HANDSHAKE_S", 0.1)
    monkeypatch.setattr(batch_api, "_ANSWER", batch_api.aiohttp.ClientTimeout(total=0.1))

    async def silent(request):
        if request.path.startswith(path):
            await asyncio.sleep(0.5)

    async def scenario():
        async with serving() as fake:
            fake.proxy = silent
            with pytest.raises(ServerGoneError, match="does not answer"):
                await asyncio.to_thread(run_one, fake.address, workflow(1))

    asyncio.run(scenario())


def test_messages_of_any_form_do_no_harm():
    async def scenario():
        async with serving() as fake:
            say, odd = fake.send, ["[1]", "null", "{", "[" * 100_000, json.dumps({"type": ["x"], "data": 1}), "\\udc00"]

            async def send(kind, **data):
                for socket in list(fake._sockets):
                    for text in odd:
                        await socket.send_str(text)
                    await socket.send_bytes(b"\\xff")
                await say(kind, **data)

            fake.send = send
            return await asyncio.to_thread(run_one, fake.address, workflow(1))

    assert asyncio.run(scenario()).contents == {"save.png": png(1)}


def test_a_worker_whose_server_hangs_gets_a_new_one_with_its_next_job(monkeypatch, tmp_path):
    made: list = []

    class Server:
        port, alive = 1, False

        def start(self):
            self.alive = True

        def stop(self):
            self.alive = False

        def is_running(self):
            return self.alive

        def explain(self, what):
            return f"{what}; its log is empty"

    def make(_self):
        made.append(Server())
        return made[-1]

    def run(_address, _posted):
        raise ServerGoneError("ComfyUI does not answer: no websocket")

    monkeypatch.setattr(batch_ray_parts, "_restore_threads", lambda: None)
    monkeypatch.setattr(batch_ray_parts, "run_one", run)
    monkeypatch.setattr(NodeServer, "_make", make)
    node = NodeServer(str(tmp_path), None, None)
    for number in (2, 3):
        assert node.run({}) == {"gone": "ComfyUI does not answer: no websocket; its log is empty"}
        assert len(made) == number and not made[-1].alive
