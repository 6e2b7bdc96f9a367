"""A stand-in for a ComfyUI server, in the test's own event loop: queue, history, messages and files, with faults.

`behave(workflow)` says how a run ends: "success", "error: TYPE: MESSAGE", "hang" (until interrupted), or "die" (the
server goes away in the middle). `post_faults` is a list of what the next POST /prompt requests meet: "drop" (never
accepted), "accept and drop", an HTTP status, or None.
"""

import asyncio
import io
import json
from collections import Counter
from contextlib import suppress
from pathlib import Path

from aiohttp import WSMsgType, web
from PIL import Image


def png(color: int, size: int = 8) -> bytes:
    """A PNG of one colour, 0xRRGGBB."""
    buffer = io.BytesIO()
    rgb = (color >> 16 & 255, color >> 8 & 255, color & 255)
    Image.new("RGB", (size, size), rgb).save(buffer, "PNG")
    return buffer.getvalue()


def workflow(color: int, images: int = 1) -> dict:
    """EmptyImage -> SaveImage."""
    image = {"width": 8, "height": 8, "batch_size": images, "color": color}
    return {
        "image": {"class_type": "EmptyImage", "inputs": image},
        "save": {"class_type": "SaveImage", "inputs": {"images": ["image", 0], "filename_prefix": "x"}},
    }


# main.py of a folder that HostServer takes for a ComfyUI
_MAIN = """
import argparse, asyncio, sys
sys.path.insert(0, {tests!r})
from fake_comfy import FakeComfy

async def serve(port):
    fake = FakeComfy()
    fake.port, fake.run_s = port, {run_s}
    await fake.start()
    await asyncio.Event().wait()

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
asyncio.run(serve(parser.parse_known_args()[0].port))
"""


def write_fake_host(folder: Path, run_s: float) -> Path:
    """A ComfyUI folder whose main.py is the fake server; each run takes that long."""
    folder.mkdir()
    main = _MAIN.format(tests=str(Path(__file__).parent), run_s=run_s)
    (folder / "main.py").write_text(main, encoding="utf-8")
    return folder


class FakeComfy:
    """Starts on a free port and keeps it over restarts; `files` survive them, queue and history do not."""

    def __init__(self, behave=lambda workflow: "success"):
        self.behave = behave
        self.port = 0
        self.queue: list[tuple] = []
        self.running: tuple | None = None
        self.history: dict[str, dict] = {}
        self.files: dict[tuple[str, str], bytes] = {}
        self.uploads: dict[tuple[str, str, str], bytes] = {}  # (kind of folder, subfolder, name) -> start image
        self.info: dict[str, dict] = {}  # class -> what /object_info says
        self.runs: Counter = Counter()  # colour -> how often it was run to its end
        self.posted: list[str] = []
        self.freed = 0
        self.post_faults: list = []
        self.status: int | None = None  # answered to everything
        self.proxy = None  # async: request -> what a proxy answers instead of the server, or None
        self.silent = False  # no messages are sent
        self.run_s = 0.0
        self.gate = asyncio.Event()  # closed: runs begin, and wait
        self.gate.set()
        self._sockets: set[web.WebSocketResponse] = set()
        self._more, self._interrupt = asyncio.Event(), asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._worker: asyncio.Task | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        app = web.Application(middlewares=[self._faults])
        app.add_routes(
            [
                web.get("/ws", self._ws),
                web.get("/system_stats", self._stats),
                web.get("/object_info", self._every_object_info),
                web.get("/object_info/{name}", self._object_info),
                web.get("/queue", self._get_queue),
                web.post("/queue", self._post_queue),
                web.get("/history/{id}", self._history),
                web.post("/prompt", self._prompt),
                web.get("/view", self._view),
                web.post("/interrupt", self._post_interrupt),
                web.post("/free", self._free),
            ]
        )
        self._runner = web.AppRunner(app, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]
        self._worker = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """As a kill: nothing is remembered but files."""
        if self._worker and self._worker is not asyncio.current_task():
            self._worker.cancel()
        for socket in list(self._sockets):
            if socket._req is not None and socket._req.transport is not None:
                socket._req.transport.abort()
        if self._runner:
            await self._runner.cleanup()
        self.queue, self.history, self.running = [], {}, None

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    @web.middleware
    async def _faults(self, request, handler):
        if self.status is not None:
            return web.Response(status=self.status)
        answer = await self.proxy(request) if self.proxy is not None else None
        return answer if answer is not None else await handler(request)

    async def _stats(self, _request):
        return web.json_response({"system": {"comfyui_version": "fake", "os": "posix"}, "devices": [{"name": "cpu"}]})

    async def _every_object_info(self, _request):
        return web.json_response({})

    async def _object_info(self, request):
        name = request.match_info["name"]
        return web.json_response({name: self.info.get(name, {})})

    async def _ws(self, request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets.add(socket)
        try:
            async for message in socket:
                if message.type == WSMsgType.ERROR:
                    break
        finally:
            self._sockets.discard(socket)
        return socket

    async def send(self, kind: str, **data) -> None:
        for socket in [] if self.silent else list(self._sockets):
            if not socket.closed:
                with suppress(ConnectionError):  # as the host does: the client may be gone
                    await socket.send_str(json.dumps({"type": kind, "data": data}))

    async def _prompt(self, request):
        body = await request.json()
        fault = self.post_faults.pop(0) if self.post_faults else None
        if fault == "drop":
            request.transport.abort()
            raise asyncio.CancelledError
        if isinstance(fault, int):
            return web.Response(status=fault)
        if any(node["inputs"].get("width", 1) < 0 for node in body["prompt"].values()):
            error = {"errors": [{"message": "Value too small", "details": "width: must be 1 or more"}]}
            return web.json_response({"error": {"message": "failed"}, "node_errors": {"image": error}}, status=400)
        self.add(body["prompt_id"], body["prompt"])
        if fault == "accept and drop":
            request.transport.abort()
            raise asyncio.CancelledError
        return web.json_response({"prompt_id": body["prompt_id"], "number": 1, "node_errors": {}})

    def add(self, prompt_id: str, prompt: dict) -> None:
        """Put a prompt at the end of the queue, as any client may."""
        self.posted.append(prompt_id)
        self.queue.append((len(self.posted), prompt_id, prompt))
        self._more.set()

    async def _get_queue(self, _request):
        running = [self.running] if self.running else []
        return web.json_response({"queue_running": running, "queue_pending": self.queue})

    async def _post_queue(self, request):
        deleted = (await request.json()).get("delete", [])
        self.queue = [item for item in self.queue if item[1] not in deleted]
        return web.Response()

    async def _history(self, request):
        name = request.match_info["id"]
        return web.json_response({name: self.history[name]} if name in self.history else {})

    async def _view(self, request):
        place = (request.query["subfolder"], request.query["filename"])
        content = self.uploads.get((request.query["type"], *place), self.files.get(place))
        return web.Response(status=404) if content is None else web.Response(body=content, content_type="image/png")

    async def _post_interrupt(self, request):
        if self.running and self.running[1] == (await request.json()).get("prompt_id"):
            self._interrupt.set()
        return web.Response()

    async def _free(self, _request):
        self.freed += 1
        return web.Response()

    async def _work(self) -> None:
        while True:
            while not self.queue:
                self._more.clear()
                await self._more.wait()
            self.running = self.queue.pop(0)
            await self._execute(*self.running[1:])
            self.running = None

    async def _execute(self, prompt_id: str, prompt: dict) -> None:
        messages: list = []

        async def say(kind: str, **data) -> None:
            messages.append([kind, {"prompt_id": prompt_id, "timestamp": 1000 + 500 * len(messages), **data}])
            await self.send(kind, **messages[-1][1])

        await say("execution_start")
        await self.gate.wait()
        await asyncio.sleep(self.run_s)
        how, outputs = self.behave(prompt), {}
        if how == "die":
            asyncio.get_running_loop().create_task(self.restart())
            await asyncio.sleep(60)
        if how == "hang":
            self._interrupt.clear()
            await self._interrupt.wait()
            await say("execution_interrupted", node_id="image")
        elif how.startswith("error: "):
            kind, _, message = how.removeprefix("error: ").partition(": ")
            await say(
                "execution_error",
                node_id="image",
                node_type="EmptyImage",
                exception_type=kind,
                exception_message=message,
            )
        else:
            outputs = self._save(prompt)
            for node, output in outputs.items():
                await self.send("executed", node=node, output=output, prompt_id=prompt_id)
            await say("execution_success")
        status = {"status_str": "success" if outputs else "error", "completed": bool(outputs), "messages": messages}
        self.history[prompt_id] = {"outputs": outputs, "status": status}

    def _save(self, prompt: dict) -> dict:
        outputs, color = {}, prompt["image"]["inputs"]["color"]
        self.runs[color] += 1
        for node, body in prompt.items():
            if "filename_prefix" not in body["inputs"]:
                continue
            subfolder, _, name = body["inputs"]["filename_prefix"].rpartition("/")
            entries = []
            for number in range(1, prompt["image"]["inputs"]["batch_size"] + 1):
                entry = {"filename": f"{name}_{number:05d}_.png", "subfolder": subfolder, "type": "output"}
                self.files[subfolder, entry["filename"]] = png(color)
                entries.append(entry)
            outputs[node] = {"images": entries}
        return outputs
