"""The host's HTTP and websocket interface: queue a workflow, follow its progress, fetch what it made.

Messages used (host 0.30.0): executing {node}, progress_state {nodes: {id: {value, max, state}}}, execution_error,
execution_interrupted, execution_success; the results are read from /history/<id>, the files from /view.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from .errors import CliError

OnProgress = Callable[[str, float, float], None]
_NO_LIMIT = aiohttp.ClientTimeout(total=None, sock_connect=60)


class ServerGoneError(CliError):
    """The server stopped answering; its log has the reason."""


@dataclass
class Result:
    """What a finished workflow left, by node id: outputs as in /history, seconds, and the files that were asked for."""

    outputs: dict[str, dict]
    stage_s: dict[str, float]
    files: dict[str, list[bytes]]


def generate(
    port: int, workflow: dict, on_progress: OnProgress, fetch: tuple[str, ...] = (), extra_pnginfo: dict | None = None
) -> Result:
    """Run a workflow; `on_progress(node_id, value, max)` follows it, the files of the `fetch` nodes are brought along.

    `extra_pnginfo`: what nodes get beside the workflow, as the interface sends it.
    Raises CliError with the host's reason if it refuses or fails, ServerGoneError if it ends meanwhile.
    """
    body = {"prompt": workflow}
    if extra_pnginfo is not None:
        body["extra_data"] = {"extra_pnginfo": extra_pnginfo}
    return asyncio.run(_generate(port, body, on_progress, fetch))


async def _generate(port: int, body: dict, on_progress: OnProgress, fetch: tuple[str, ...]) -> Result:
    client = uuid.uuid4().hex
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", timeout=_NO_LIMIT) as session:
            async with session.ws_connect(f"/ws?clientId={client}", max_msg_size=0) as socket:
                prompt = await _queue(session, {**body, "client_id": client})
                stage_s = await _follow(socket, prompt, on_progress)
            outputs = await _outputs(session, prompt)
            files = {node: await _files(session, outputs.get(node, {})) for node in fetch}
            return Result(outputs, stage_s, files)
    except aiohttp.ClientError as failure:
        raise ServerGoneError("ComfyUI stopped answering") from failure


async def _queue(session: aiohttp.ClientSession, body: dict) -> str:
    async with session.post("/prompt", json=body) as response:
        answer = await response.json(content_type=None)
    if response.status != 200 or answer.get("node_errors"):  # 200 with errors: the host would run only a part of it
        raise CliError(f"ComfyUI refused the workflow: {refusal(answer)}")
    return answer["prompt_id"]


def _reason(error: object) -> str:
    """The host puts either the whole sentence or only the input's name into `details`."""
    if not isinstance(error, dict):
        return str(error)
    message, details = (str(error.get(name) or "") for name in ("message", "details"))
    return details if " " in details else f"{details}: {message}".removeprefix(": ").removesuffix(": ")


def _listed(report: object) -> list:
    errors = report.get("errors") if isinstance(report, dict) else None
    return errors if isinstance(errors, list) else []


def refusal(answer: dict) -> str:
    """The host's answer to a workflow it does not accept, as one line: the nodes' own messages where there are any.

    Another server's answer may have any form.
    """
    reports, general = answer.get("node_errors"), answer.get("error")
    errors = [
        f"{node}: {_reason(error)}"
        for node, report in (reports.items() if isinstance(reports, dict) else ())
        for error in _listed(report)
    ]
    words = general.get("message") if isinstance(general, dict) else general
    return " ".join(("; ".join(dict.fromkeys(errors)) or str(words or "no reason was given")).split())


async def _follow(socket: AsyncIterable[Any], prompt: str, on_progress: OnProgress) -> dict[str, float]:
    """Read messages until the prompt has ended; returns the seconds of each node. Raises CliError if it failed."""
    clock = _StageClock()
    async for message in socket:
        if message.type != aiohttp.WSMsgType.TEXT:
            continue  # previews
        event = message.json()
        kind, data = event.get("type"), event.get("data") or {}
        if data.get("prompt_id") != prompt:
            continue
        if kind == "executing" and data.get("node"):
            clock.enter(data["node"])
            on_progress(data["node"], 0, 0)
        elif kind == "progress_state":
            for node, state in data.get("nodes", {}).items():
                if state.get("state") == "running":
                    on_progress(node, state.get("value", 0), state.get("max", 0))
        elif kind == "execution_error":
            raise CliError(_failure(data))
        elif kind == "execution_interrupted":
            raise CliError("the run was interrupted in ComfyUI")
        elif kind == "execution_success":
            return clock.finish()
    raise ServerGoneError("ComfyUI ended during the run")


class _StageClock:
    """Seconds from each node's start to the next one's; a node may be entered more than once."""

    def __init__(self):
        self._seconds: dict[str, float] = {}
        self._node: str | None = None
        self._since = 0.0

    def enter(self, node: str | None) -> None:
        now = time.monotonic()
        if self._node is not None:
            self._seconds[self._node] = self._seconds.get(self._node, 0.0) + now - self._since
        self._node, self._since = node, now

    def finish(self) -> dict[str, float]:
        self.enter(None)
        return {node: round(seconds, 3) for node, seconds in self._seconds.items()}


def _failure(data: dict) -> str:
    message = " ".join(str(data.get("exception_message", "")).split())
    return f"{data.get('node_id')} ({data.get('node_type')}) failed: {message or data.get('exception_type')}"


async def _outputs(session: aiohttp.ClientSession, prompt: str) -> dict[str, dict]:
    """The outputs in /history; the entry appears a moment after the success message."""
    for _ in range(100):
        async with session.get(f"/history/{prompt}") as response:
            history = await response.json()
        if prompt in history:
            return history[prompt]["outputs"]
        await asyncio.sleep(0.1)
    raise CliError("ComfyUI has no record of the finished run")


async def _files(session: aiohttp.ClientSession, output: dict) -> list[bytes]:
    """The files an output node has saved, in its order (videos are listed under `images` too)."""
    contents = []
    for entry in output.get("images", []):
        place = {name: entry[name] for name in ("filename", "subfolder", "type")}
        async with session.get("/view", params=place) as response:
            if response.status != 200:
                raise CliError(f"ComfyUI does not hand out {entry['filename']} (HTTP {response.status})")
            contents.append(await response.read())
    return contents
