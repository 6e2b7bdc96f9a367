"""A server's events, as they come through its websocket, in a queue."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from .batch_api import AWAY, Api, decoded


@asynccontextmanager
async def following(api: Api) -> AsyncIterator[asyncio.Queue]:
    """The server's events as a queue, from before the first prompt is posted; None in it: the connection ended.

    Raises ServerGoneError if there is no websocket.
    """
    events: asyncio.Queue = asyncio.Queue()
    async with await api.open_socket() as socket:
        reader = asyncio.create_task(_read(socket, events))
        try:
            yield events
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader


async def _read(socket: aiohttp.ClientWebSocketResponse, into: asyncio.Queue) -> None:
    try:
        async for message in socket:
            event = decoded(message.data) if message.type == aiohttp.WSMsgType.TEXT else None  # others are previews
            if isinstance(event, dict):
                into.put_nowait(event)
    except (*AWAY, OSError):
        pass
    finally:
        into.put_nowait(None)


async def next_event(events: asyncio.Queue, limit_s: float) -> dict | None:
    """The next event; None: the connection ended; {"type": "quiet"}: there was none for this long."""
    try:
        return await asyncio.wait_for(events.get(), limit_s)
    except (TimeoutError, asyncio.TimeoutError):  # one from Python 3.11
        return {"type": "quiet"}
