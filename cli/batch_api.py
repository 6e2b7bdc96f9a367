"""A ComfyUI server's HTTP and websocket interface, as a batch uses it: small calls that can be repeated.

Every call that fails because the server is away, restarting or overloaded raises ServerGoneError; what the server
itself refuses raises RefusedError. Addresses are shown without user name and password.
"""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from .client import ServerGoneError, refusal
from .errors import CliError
from .input_files import marked_inputs

_ANSWER = aiohttp.ClientTimeout(total=120, sock_connect=20)
_FILE = aiohttp.ClientTimeout(total=None, sock_connect=20, sock_read=120)
_SOCKET = aiohttp.ClientTimeout(total=None, sock_connect=20)
_HEARTBEAT_S = 60  # a server that computes in Python answers late, never for this long
_PIECE_BYTES = 1 << 20
_AWAY = (aiohttp.ClientError, TimeoutError, asyncio.TimeoutError)  # the last two are one from Python 3.11
_PASSING = {408, 425, 429, 502, 503, 504}  # a proxy before a server that is away, or one that is overloaded


class RefusedError(CliError):
    """The server does not accept this request, now or later."""


class NoSuchFileError(CliError):
    """The server does not have this file any more."""


class TooLargeError(CliError):
    """The file is longer than it may be."""


class ServerFault(ServerGoneError):  # noqa: N818 (one kind of gone: it answers, with HTTP 500)
    """The server answered HTTP 500."""


def shown_address(address: str) -> str:
    """The address for messages and records: without user name, password, query and fragment."""
    url = URL(address)
    bare = url.with_user(None) if url.host else url
    return str(bare.with_query(None).with_fragment(None))


def check_address(address: str) -> str:
    """A server's address, without a trailing slash. Raises CliError."""
    try:
        url = URL(address)
        good = url.scheme in ("http", "https") and bool(url.host) and not url.query_string
    except ValueError:
        good = False
    if not good:
        shown = shown_address(address) if "@" not in address else "the one given"
        raise CliError(f"--server must be an address such as http://127.0.0.1:8188, got {shown}")
    return address.rstrip("/")


class Api:
    """One server, for one client; made by `connected`."""

    def __init__(self, session: aiohttp.ClientSession, address: str, client: str):
        self._session, self._address, self._client = session, address, client
        self._upload_inputs: dict[str, set[str]] = {}  # class -> what the server said, asked once

    async def _json(self, method: str, path: str, body: dict | None = None) -> tuple[int, Any]:
        """(HTTP status, decoded body or None). Raises ServerGoneError, RefusedError (no permission)."""
        try:
            async with self._session.request(method, self._address + path, json=body, timeout=_ANSWER) as response:
                _check_status(response.status)
                text = await response.text()
                try:
                    return response.status, await response.json(content_type=None) if text else None
                except ValueError:
                    return response.status, None
        except (*_AWAY, OSError) as failure:
            raise ServerGoneError(f"ComfyUI does not answer: {_cause(failure)}") from failure

    async def _get(self, path: str) -> dict:
        status, found = await self._json("GET", path)
        if status != 200 or not isinstance(found, dict):
            raise RefusedError(f"{shown_address(self._address)}{path} answered HTTP {status}; is it a ComfyUI server?")
        return found

    async def stats(self) -> dict:
        """/system_stats: {"system", "devices"}."""
        found = await self._get("/system_stats")
        if not isinstance(found.get("system"), dict) or not isinstance(found.get("devices"), list):
            raise RefusedError(f"{shown_address(self._address)} answers, but is no ComfyUI server")
        return found

    async def knows(self, class_type: str) -> bool:
        """Whether the server has a node of that class."""
        status, found = await self._json("GET", "/object_info/" + URL.build(path=class_type).raw_path)
        return status == 200 and bool(found)

    async def upload_inputs(self, class_type: str) -> set[str]:
        """The inputs of a node class that name an uploaded file; empty for a class the server does not have."""
        if class_type not in self._upload_inputs:
            _, found = await self._json("GET", "/object_info/" + URL.build(path=class_type).raw_path)
            info = found.get(class_type) if isinstance(found, dict) else None
            self._upload_inputs[class_type] = marked_inputs(info)
        return self._upload_inputs[class_type]

    async def queue(self) -> tuple[list[str], list[str]]:
        """The prompt ids that run and that wait, everybody's."""
        found = await self._get("/queue")
        running, pending = ([item[1] for item in found.get(f"queue_{kind}", [])] for kind in ("running", "pending"))
        return running, pending

    async def history(self, prompt_id: str) -> dict | None:
        """What the server remembers of a prompt that has ended: {"outputs", "status", ...}."""
        return (await self._get(f"/history/{prompt_id}")).get(prompt_id)

    async def post(self, workflow: dict, prompt_id: str) -> None:
        """Put a workflow at the queue's end. Raises RefusedError with the server's reasons, ServerGoneError."""
        body = {"prompt": workflow, "prompt_id": prompt_id, "client_id": self._client}
        status, answer = await self._json("POST", "/prompt", body)
        answer = answer if isinstance(answer, dict) else {}
        if status != 200:
            raise RefusedError(f"ComfyUI refused the workflow: {refusal(answer)} (HTTP {status})")
        if answer.get("node_errors"):  # it would run a part of it
            await self.withdraw([prompt_id])
            await self.interrupt(prompt_id)
            raise RefusedError(f"ComfyUI refused the workflow: {refusal(answer)}")
        if answer.get("prompt_id") != prompt_id:
            await self.withdraw([str(answer.get("prompt_id"))])
            raise CliError("this ComfyUI chooses the ids of its jobs itself; version 0.30.0 or newer is needed")

    async def withdraw(self, prompt_ids: list[str]) -> None:
        """Take these out of the queue, where they still wait; nobody else's are touched."""
        await self._json("POST", "/queue", {"delete": prompt_ids})

    async def interrupt(self, prompt_id: str) -> None:
        """End this prompt if it runs."""
        await self._json("POST", "/interrupt", {"prompt_id": prompt_id})

    async def free(self) -> None:
        """Unload all models and drop what is cached, before the next prompt."""
        await self._json("POST", "/free", {"unload_models": True, "free_memory": True})

    async def download(self, entry: dict, path: Path, limit_bytes: int | None = None) -> None:
        """Write one file of the server's folders to disk, in pieces.

        Raises NoSuchFileError, TooLargeError (it is longer than `limit_bytes`), ServerGoneError, OSError (disk).
        """
        try:
            async with self._session.get(self._address + "/view", params=_place(entry), timeout=_FILE) as response:
                _check_status(response.status)
                if response.status != 200:
                    raise NoSuchFileError(f"ComfyUI does not have {entry['filename']} (HTTP {response.status})")
                await _save(response, path, limit_bytes)
        except _AWAY as failure:
            raise ServerGoneError(f"ComfyUI does not answer: {_cause(failure)}") from failure

    async def has_file(self, entry: dict) -> bool:
        """Whether the server can hand out this file."""
        try:
            async with self._session.head(self._address + "/view", params=_place(entry), timeout=_ANSWER) as response:
                _check_status(response.status)
                return response.status == 200
        except (*_AWAY, OSError) as failure:
            raise ServerGoneError(f"ComfyUI does not answer: {_cause(failure)}") from failure

    async def read_events(self, into: asyncio.Queue) -> None:
        """Follow the websocket until it ends, then put None; run as a task."""
        try:
            address = f"{self._address}/ws?clientId={self._client}"
            socket = await self._session.ws_connect(address, heartbeat=_HEARTBEAT_S, max_msg_size=0)
            async with socket:
                await into.put({"type": "connected", "data": {}})
                async for message in socket:
                    if message.type == aiohttp.WSMsgType.TEXT:
                        await into.put(message.json())
        except (*_AWAY, OSError, ValueError):
            pass
        finally:
            await into.put(None)


@asynccontextmanager
async def connected(address: str, client: str) -> AsyncIterator[Api]:
    """An Api for a server's address; user name and password in it are sent as HTTP asks for them."""
    url = URL(address)
    headers = {"Authorization": _basic(url.user, url.password or "")} if url.user else {}
    async with aiohttp.ClientSession(headers=headers, timeout=_SOCKET) as session:
        yield Api(session, str(url.with_user(None)).rstrip("/"), client)


def _basic(user: str, password: str) -> str:
    """The header of HTTP's basic login (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@asynccontextmanager
async def following(api: Api) -> AsyncIterator[asyncio.Queue]:
    """The server's events as a queue, from before the first prompt is posted; None in it: the connection ended."""
    events: asyncio.Queue = asyncio.Queue()
    reader = asyncio.create_task(api.read_events(events))
    try:
        if await events.get() is None:
            raise ServerGoneError("ComfyUI does not answer: no websocket")
        yield events
    finally:
        reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reader


async def _save(response: aiohttp.ClientResponse, path: Path, limit_bytes: int | None) -> None:
    expected, written = response.content_length, 0
    with open(path, "wb") as file:
        async for piece in response.content.iter_chunked(_PIECE_BYTES):
            written += len(piece)
            if limit_bytes is not None and max(written, expected or 0) > limit_bytes:
                raise TooLargeError(f"{path.name} has more than {limit_bytes} bytes")
            file.write(piece)
    if expected is not None and written != expected:
        raise ServerGoneError(f"ComfyUI sent {written} of {expected} bytes of {path.name}")


def _place(entry: dict) -> dict[str, str]:
    return {name: str(entry.get(name, "")) for name in ("filename", "subfolder", "type")}


def _check_status(status: int) -> None:
    if status in _PASSING:
        raise ServerGoneError(f"ComfyUI does not answer: HTTP {status}")
    if status == 500:
        raise ServerFault("ComfyUI answered HTTP 500; its log has the reason")
    if status in (401, 403, 407):
        raise CliError(f"the server asks for a login (HTTP {status}); write it as http://NAME:PASSWORD@HOST:PORT")


def _cause(failure: BaseException) -> str:
    reason = getattr(failure, "strerror", None) or type(failure).__name__
    return str(reason).split(" [")[0]
