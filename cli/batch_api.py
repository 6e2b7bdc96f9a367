"""A ComfyUI server's HTTP and websocket interface, as a batch uses it: small calls that can be repeated.

Every call that fails because the server is away, restarting or overloaded raises ServerGoneError; what the server
itself refuses raises RefusedError. A proxy before a server that is away answers too, with any status: what does not
look like ComfyUI's own answer is never taken for one. Addresses are shown without user name and password.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

from .batch_address import login, shown_address, without_login
from .client import ServerGoneError, refusal
from .errors import CliError
from .input_files import marked_inputs

_ANSWER = aiohttp.ClientTimeout(total=120, sock_connect=20)
_FILE = aiohttp.ClientTimeout(total=None, sock_connect=20, sock_read=120)
_SOCKET = aiohttp.ClientTimeout(total=None, sock_connect=20)
HANDSHAKE_S = 60.0  # for a websocket to be opened
HEARTBEAT_S = 60.0  # a server that computes in Python answers late, never for this long
_CLOSE = aiohttp.ClientWSTimeout(ws_close=2.0)  # it is not needed any more
_PIECE_BYTES = 1 << 20
AWAY = (aiohttp.ClientError, TimeoutError, asyncio.TimeoutError)  # the last two are one from Python 3.11
_PASSING = {408, 425, 429}  # and all from 501: a proxy before a server that is away, or one that is overloaded
_NEW_METHOD = {301, 302, 303}  # redirects after which a POST is a GET


class RefusedError(CliError):
    """The server does not accept this request, now or later."""


class NoSuchFileError(CliError):
    """The server does not have this file any more."""


class TooLargeError(CliError):
    """The file is longer than it may be."""


class ServerFault(ServerGoneError):  # noqa: N818 (one kind of gone: it answers, with HTTP 500)
    """The server answered HTTP 500."""


class ForeignAnswerError(ServerGoneError):
    """Something answered that is no ComfyUI: a proxy whose server is away, or a wrong address."""

    def __init__(self, path: str, status: int):
        super().__init__(f"{path} answered HTTP {status}, but not as ComfyUI does")


class Api:
    """One server, for one client; made by `connected`."""

    def __init__(self, session: aiohttp.ClientSession, address: str, client: str):
        self._session, self._address, self._client = session, address, client
        self._upload_inputs: dict[str, set[str]] = {}  # class -> what the server said, asked once

    async def _json(self, method: str, path: str, body: dict | None = None) -> tuple[int, Any]:
        """(HTTP status, decoded body or None). Raises ServerGoneError, CliError (no permission, moved)."""
        try:
            async with self._session.request(method, self._address + path, json=body, timeout=_ANSWER) as response:
                self._check_moved(response, path)
                _check_status(response.status)
                return response.status, decoded(await response.read())
        except (*AWAY, OSError) as failure:
            raise _gone(failure) from failure

    async def _object(self, path: str) -> dict:
        """What GET gives. Raises ForeignAnswerError unless it is a JSON object."""
        status, found = await self._json("GET", path)
        if status != 200 or not isinstance(found, dict):
            raise ForeignAnswerError(path, status)
        return found

    def _check_moved(self, response: aiohttp.ClientResponse, path: str) -> None:
        """A proxy that sends http on to https has a POST arrive as a GET; one to a login page is no address."""
        if any(step.status in _NEW_METHOD for step in response.history) and response.url.path.endswith(path):
            moved = shown_address(str(response.url)).removesuffix(path)
            raise CliError(f"{shown_address(self._address)} sends requests on to {moved}; name that with --server")

    async def stats(self) -> dict:
        """/system_stats: {"system", "devices"}."""
        found = await self._object("/system_stats")
        devices = found.get("devices")
        if not isinstance(found.get("system"), dict) or not isinstance(devices, list):
            raise ForeignAnswerError("/system_stats", 200)
        if not all(isinstance(device, dict) and "name" in device for device in devices):
            raise ForeignAnswerError("/system_stats", 200)
        return found

    async def _info(self, class_type: str) -> dict:
        """What the server says of a node class; {} if it has none of that name."""
        return await self._object("/object_info/" + quote(class_type, safe=""))

    async def knows(self, class_type: str) -> bool:
        """Whether the server has a node of that class."""
        return bool(await self._info(class_type))

    async def upload_inputs(self, class_type: str) -> set[str]:
        """The inputs of a node class that name an uploaded file; empty for a class the server does not have."""
        if class_type not in self._upload_inputs:
            info = (await self._info(class_type)).get(class_type)
            self._upload_inputs[class_type] = marked_inputs(info)
        return self._upload_inputs[class_type]

    async def queue(self) -> tuple[list[str], list[str]]:
        """The prompt ids that run and that wait, everybody's."""
        found = await self._object("/queue")
        try:
            running, pending = ([str(item[1]) for item in found[f"queue_{kind}"]] for kind in ("running", "pending"))
        except (LookupError, TypeError):
            raise ForeignAnswerError("/queue", 200) from None
        return running, pending

    async def history(self, prompt_id: str) -> dict | None:
        """What the server remembers of a prompt that has ended: {"outputs", "status", ...}."""
        entry = (await self._object(f"/history/{prompt_id}")).get(prompt_id)
        if not isinstance(entry, dict):
            return None
        return entry if isinstance(entry.get("outputs"), dict) else {**entry, "outputs": {}}

    async def new_history(self, prompt_id: str) -> dict:
        """The same of a prompt that has just ended: the entry appears a moment after the message that says so."""
        for _ in range(100):
            entry = await self.history(prompt_id)
            if entry is not None:
                return entry
            await asyncio.sleep(0.1)
        raise ServerGoneError("ComfyUI has no record of the finished run")

    async def post(self, workflow: dict, prompt_id: str) -> None:
        """Put a workflow at the queue's end. Raises RefusedError with the server's reasons, ServerGoneError."""
        body = {"prompt": workflow, "prompt_id": prompt_id, "client_id": self._client}
        status, answer = await self._json("POST", "/prompt", body)
        if status == 413:
            raise RefusedError("the workflow is too long for the server, or for a proxy before it (HTTP 413)")
        if status == 400 and isinstance(answer, dict) and ("error" in answer or "node_errors" in answer):
            raise RefusedError(f"ComfyUI refused the workflow: {refusal(answer)} (HTTP {status})")
        if status != 200 or not isinstance(answer, dict) or "prompt_id" not in answer:
            raise ForeignAnswerError("/prompt", status)
        if answer.get("node_errors"):  # it would run a part of it
            await self.withdraw([prompt_id])
            await self.interrupt(prompt_id)
            raise RefusedError(f"ComfyUI refused the workflow: {refusal(answer)}")
        if answer["prompt_id"] != prompt_id:
            await self.withdraw([str(answer["prompt_id"])])
            raise CliError("this ComfyUI chooses the ids of its jobs itself; version 0.30.0 or newer is needed")

    async def _tell(self, path: str, body: dict) -> None:
        """POST what has no answer but that it was taken."""
        status, _ = await self._json("POST", path, body)
        if status != 200:
            raise ForeignAnswerError(path, status)

    async def withdraw(self, prompt_ids: list[str]) -> None:
        """Take these out of the queue, where they still wait; nobody else's are touched."""
        await self._tell("/queue", {"delete": prompt_ids})

    async def interrupt(self, prompt_id: str) -> None:
        """End this prompt if it runs."""
        await self._tell("/interrupt", {"prompt_id": prompt_id})

    async def free(self) -> None:
        """Unload all models and drop what is cached, before the next prompt."""
        await self._tell("/free", {"unload_models": True, "free_memory": True})

    async def download(self, entry: dict, path: Path, limit_bytes: int | None = None) -> None:
        """Write one file of the server's folders to disk, in pieces.

        Raises NoSuchFileError, TooLargeError (it is longer than `limit_bytes`), ServerGoneError, OSError (disk).
        """
        try:
            async with self._session.get(self._address + "/view", params=_place(entry), timeout=_FILE) as response:
                if not await self._is_there(response, bool(await _first_byte(response))):
                    raise NoSuchFileError(f"ComfyUI does not have {entry['filename']} (HTTP {response.status})")
                await _save(response, path, limit_bytes)
        except AWAY as failure:
            raise _gone(failure) from failure

    async def has_file(self, entry: dict) -> bool:
        """Whether the server can hand out this file."""
        try:
            async with self._session.head(self._address + "/view", params=_place(entry), timeout=_ANSWER) as response:
                return await self._is_there(response, bool(response.content_length))
        except (*AWAY, OSError) as failure:
            raise _gone(failure) from failure

    async def _is_there(self, response: aiohttp.ClientResponse, has_body: bool) -> bool:
        """Whether an answer of /view is the file. That it is not there is believed of ComfyUI only: it has no words."""
        _check_status(response.status)
        is_page = response.content_type == "text/html"
        if response.status == 200 and not is_page:
            return True
        if has_body or is_page:
            raise ForeignAnswerError("/view", response.status)
        await self.stats()
        return False

    async def open_socket(self) -> aiohttp.ClientWebSocketResponse:
        """The websocket that the server's events come through. Raises ServerGoneError, CliError (no permission)."""
        address = f"{self._address}/ws?clientId={self._client}"
        opening = self._session.ws_connect(address, heartbeat=HEARTBEAT_S, max_msg_size=0, timeout=_CLOSE)
        try:
            return await asyncio.wait_for(opening, HANDSHAKE_S)
        except aiohttp.WSServerHandshakeError as refused:
            _check_status(refused.status)
            raise ServerGoneError(
                f"/ws answered HTTP {refused.status}: a proxy before ComfyUI has to forward websockets"
            ) from refused
        except (*AWAY, OSError) as failure:
            raise ServerGoneError(f"ComfyUI does not answer: no websocket ({_cause(failure)})") from failure


@asynccontextmanager
async def connected(address: str, client: str) -> AsyncIterator[Api]:
    """An Api for a server's address; user name and password in it are sent as HTTP asks for them."""
    async with aiohttp.ClientSession(headers=login(address), timeout=_SOCKET) as session:
        yield Api(session, without_login(address), client)


def decoded(text: bytes | str) -> Any:
    """JSON from a server; None for what is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


async def _first_byte(response: aiohttp.ClientResponse) -> bytes:
    """Of an answer that is no file."""
    return b"" if response.status == 200 else await response.content.read(1)


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
    if status in _PASSING or status > 500:
        raise ServerGoneError(f"ComfyUI does not answer: HTTP {status}")
    if status == 500:
        raise ServerFault("ComfyUI answered HTTP 500; its log has the reason")
    if status in (401, 403, 407):
        raise CliError(f"the server asks for a login (HTTP {status}); write it as http://NAME:PASSWORD@HOST:PORT")


def _gone(failure: BaseException) -> ServerGoneError:
    return ServerGoneError(f"ComfyUI does not answer: {_cause(failure)}")


def _cause(failure: BaseException) -> str:
    reason = getattr(failure, "strerror", None) or type(failure).__name__
    return str(reason).split(" [")[0]
