"""One workflow on one server that is ours alone: queue it, wait for its end, bring its files along."""

import asyncio
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from .batch_api import Api, connected
from .batch_events import following, next_event
from .batch_failure import Failure, history_end, history_seconds, judge
from .batch_files import wanted_files
from .batch_inputs import fetch_inputs
from .client import ServerGoneError

_LOOK_S = 30.0  # without any message for this long, the history is asked


@dataclass
class Made:
    """How it ended: with `failure`, or with outputs and their files' contents by path in the job's folder.

    `inputs`: what it read from ComfyUI's folders, by the name in the workflow; for batch_inputs.keep_inputs.
    """

    failure: Failure | None
    outputs: dict
    contents: dict[str, bytes]
    run_s: float | None
    stats: dict
    inputs: dict[str, bytes | None]


def run_one(address: str, posted: dict) -> Made:
    """Run it. Raises ServerGoneError, RefusedError."""
    return asyncio.run(_run_one(address, posted))


async def _run_one(address: str, posted: dict) -> Made:
    prompt_id = str(uuid.uuid4())
    async with connected(address, uuid.uuid4().hex) as api, following(api) as events:
        stats = await api.stats()
        await api.post(posted, prompt_id)
        entry = await _end(api, events, prompt_id)
        how, data = history_end(entry)
        if how != "success":
            failure = judge(data) if how == "error" else Failure("lasting", "the run was interrupted in ComfyUI")
            if failure.kind == "memory":
                await api.free()
            return Made(failure, {}, {}, None, stats, {})
        outputs = entry.get("outputs", {})
        contents = await _contents(api, outputs)
        inputs = await _input_contents(api, posted)
        return Made(None, outputs, contents, history_seconds(entry), stats, inputs)


async def _end(api: Api, events: asyncio.Queue, prompt_id: str) -> dict:
    """Its entry in the history."""
    while True:
        entry = await api.history(prompt_id)
        if entry is not None:
            return entry
        event = await next_event(events, _LOOK_S)
        if event is None:
            raise ServerGoneError("the connection to ComfyUI ended")
        if str(event.get("type")).startswith("execution_s"):  # not started: it appears a moment after the success
            await asyncio.sleep(0.02)


async def _contents(api: Api, outputs: dict) -> dict[str, bytes]:
    contents = {}
    with tempfile.TemporaryDirectory(prefix="wan-gguf-") as folder:
        for number, file in enumerate(wanted_files(outputs)):
            path = Path(folder, str(number))
            await api.download(file.entry, path)
            contents[file.path] = path.read_bytes()
    return contents


async def _input_contents(api: Api, workflow: dict) -> dict[str, bytes | None]:
    with tempfile.TemporaryDirectory(prefix="wan-gguf-") as folder:
        inputs = await fetch_inputs(api, workflow, Path(folder))
        return {name: kept and Path(folder, kept["file"]).read_bytes() for name, kept in inputs.items()}
