"""From a job that ended well on the server to its complete folder."""

import asyncio
import shutil
from pathlib import Path

from .batch_api import Api, NoSuchFileError
from .batch_files import PREFIX, copy_place, holds_job, partial_folder, place_folder, publish, wanted_files
from .batch_inputs import fetch_inputs
from .batch_record import Conditions, finish_folder
from .batch_store import Job, Store
from .client import ServerGoneError
from .errors import CliError


class DamagedFileError(Exception):
    """A file of the run cannot be read: it was cut off."""


async def collect(api: Api, store: Store, out: Path, job: Job, conditions: Conditions) -> int:
    """Fetch the job's files, write its folder under every place, mark it as done. Returns the number of files.

    Raises NoSuchFileError, DamagedFileError (it has to be made again), ServerGoneError, CliError (the disk).
    """
    targets = [place_folder(out, number, name) for number, name in store.places(job.key)]
    files = wanted_files(job.outputs)
    try:
        if not all(holds_job(target, job.key) for target in targets):
            partial = partial_folder(out, job.key)
            try:
                for file in files:
                    (partial / file.path).parent.mkdir(exist_ok=True)
                    await api.download(file.entry, partial / file.path)
                inputs = await fetch_inputs(api, job.workflow, partial)
                await _finish(partial, job, files, conditions, inputs)
                publish(partial, job.key, targets)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except (NoSuchFileError, ServerGoneError):
        raise
    except OSError as failure:
        raise disk_error(out, failure) from failure
    store.done(job.key)
    return len(files)


async def _finish(partial: Path, job: Job, files: list, conditions: Conditions, inputs: dict) -> None:
    try:
        await asyncio.to_thread(finish_folder, partial, job, files, conditions, inputs)
    except ValueError as damage:
        raise DamagedFileError(str(damage)) from damage
    except OSError as failure:
        if failure.errno is None:  # the picture's reader, not the disk
            raise DamagedFileError(str(failure)) from failure
        raise


def disk_error(out: Path, failure: OSError) -> CliError:
    """What to say when the results' folder cannot be written."""
    return CliError(
        f"{out} cannot be written: {failure.strerror or failure}; nothing is lost: mend that, then run the same "
        "command again"
    )


def check_done(store: Store, out: Path) -> list[str]:
    """Jobs that are done have their folders: a new place gets a copy, a job without any waits again. Returns notes."""
    notes = []
    for key in store.keys("done"):
        targets = [place_folder(out, number, name) for number, name in store.places(key)]
        there = [target for target in targets if holds_job(target, key)]
        if not there:
            store.again(key, counts=False)
            notes.append(f"{targets[0].name} was done, but is gone; it is made again")
            continue
        for target in targets:
            if target not in there:
                copy_place(there[0], key, target)
    return notes


def drop_server_files(server_output: Path | None, job: Job) -> None:
    """Our own server's copies are not needed any more."""
    if server_output is not None:
        for folder in (server_output / PREFIX).glob(f"{job.key[:16]}*"):
            shutil.rmtree(folder, ignore_errors=True)
