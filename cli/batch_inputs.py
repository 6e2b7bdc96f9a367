"""Keeping the files that a job's workflow reads from ComfyUI's folders beside its record, so that it can be checked."""

import asyncio
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from .batch_api import Api, NoSuchFileError, ServerFault, TooLargeError
from .input_files import FOLDER, kept_path, named_files, place_of
from .output import file_sha256
from .workflow import class_types

MAX_BYTES = 1 << 30  # of one file; a longer one is not kept


async def fetch_inputs(api: Api, workflow: dict, folder: Path) -> dict[str, dict | None]:
    """Fetch them into `folder`: name as in the workflow -> {"file", "sha256"}; None where the server has none to give.

    Raises ServerGoneError, CliError (no permission), OSError (the disk).
    """
    marked = {name: await api.upload_inputs(name) for name in sorted(class_types(workflow))}
    names = named_files(workflow, marked)
    return {name: await _fetch(api, name, number, folder) for number, name in enumerate(names, start=1)}


def keep_inputs(folder: Path, contents: Mapping[str, bytes | None]) -> dict[str, dict | None]:
    """The same for files that were fetched elsewhere: name as in the workflow, all of them in order -> content.

    Raises OSError.
    """
    inputs: dict[str, dict | None] = {}
    for number, (name, content) in enumerate(contents.items(), start=1):
        place = place_of(name)
        if content is None or place is None:
            inputs[name] = None
            continue
        file = kept_path(number, place)
        (folder / FOLDER).mkdir(exist_ok=True)
        (folder / file).write_bytes(content)
        inputs[name] = {"file": file, "sha256": hashlib.sha256(content).hexdigest()}
    return inputs


async def _fetch(api: Api, name: str, number: int, folder: Path) -> dict | None:
    place = place_of(name)
    if place is None:
        return None
    *subfolders, filename = place.parts
    entry = {"filename": filename, "subfolder": "/".join(subfolders), "type": place.kind}
    file = kept_path(number, place)
    (folder / FOLDER).mkdir(exist_ok=True)
    try:
        await api.download(entry, folder / file, MAX_BYTES)
    except (NoSuchFileError, ServerFault, TooLargeError):  # a fault: a name that the server's disk cannot take
        (folder / file).unlink(missing_ok=True)
        with suppress(OSError):  # others may lie in it
            (folder / FOLDER).rmdir()
        return None
    return {"file": file, "sha256": await asyncio.to_thread(file_sha256, folder / file)}
