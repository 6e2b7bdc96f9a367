"""From a job that ended well on the server to its complete folder."""

import asyncio
import shutil
from pathlib import Path

from .batch_api import Api, NoSuchFileError
from .batch_files import (
    PREFIX,
    SERVER_OUTPUT,
    copy_place,
    holds_job,
    partial_folder,
    place_folder,
    publish,
    wanted_files,
)
from .batch_inputs import fetch_inputs
from .batch_record import Conditions, finish_folder
from .batch_store import OPEN_STATES, Job, Store
from .client import ServerGoneError
from .errors import CliError


async def collect(api: Api, store: Store, out: Path, job: Job, conditions: Conditions) -> list[str]:
    """Fetch the job's files, write its folder under every place, mark it as done. Returns what is not in it, and why.

    Raises NoSuchFileError, DamagedFileError (it has to be made again), ServerGoneError, CliError (the disk).
    """
    targets = _targets(store, out, job.key)
    files, notes = wanted_files(job.outputs), []
    try:
        if not all(holds_job(target, job.key) for target in targets):
            partial = partial_folder(out, job.key)
            try:
                for file in files:
                    (partial / file.path).parent.mkdir(exist_ok=True)
                    await api.download(file.entry, partial / file.path)
                inputs = await fetch_inputs(api, job.workflow, partial)
                notes = await asyncio.to_thread(finish_folder, partial, job, files, conditions, inputs)
                publish(partial, job.key, targets)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except (NoSuchFileError, ServerGoneError):
        raise
    except OSError as failure:
        raise disk_error(out, failure) from failure
    store.done(job.key)
    return notes


def disk_error(out: Path, failure: OSError) -> CliError:
    """What to say when the results' folder cannot be written."""
    return CliError(
        f"{out} cannot be written: {failure.strerror or failure}; nothing is lost: mend that, then run the same "
        "command again"
    )


def check_done(store: Store, out: Path) -> list[str]:
    """Compare store and folders: a job with a folder is done, in each of its places; one without waits. Returns notes.

    So a store that was lost costs nothing: jobs that are new to it are known by their folders. Raises CliError if
    there is something else where a result is to go, before anything is computed; OSError.
    """
    notes, found, foreign = [], [], []
    for key in store.keys("done"):
        if not _fill_places(store, out, key):
            store.again(key, counts=False)
            notes.append(f"{_targets(store, out, key)[0].name} was done, but is gone; it is made again")
    for key in store.keys(*OPEN_STATES):
        there = [target for target in _targets(store, out, key) if target.exists()]
        if there and _fill_places(store, out, key):
            found.append(key)
        else:
            foreign += there
    store.found(found)
    for key in found:
        drop_server_files(out / SERVER_OUTPUT, store.job(key))
    if found:
        notes.append(f"taken over: {len(found)} results found in {out}; to have one made again, delete its folder")
    if foreign:
        more = f" (and {len(foreign) - 1} more like it)" if len(foreign) > 1 else ""
        raise CliError(
            f"{foreign[0]}{more} exists and is not this job's result; move it away, or name another folder with --out, "
            "then run the same command again; nothing was queued"
        )
    return notes


def _fill_places(store: Store, out: Path, key: str) -> bool:
    """Whether the job's folder is complete in a place; then it is in all of them. Raises CliError, OSError."""
    targets = _targets(store, out, key)
    complete = [target for target in targets if holds_job(target, key)]
    for target in targets if complete else ():
        if target not in complete:
            copy_place(complete[0], key, target)
    return bool(complete)


def _targets(store: Store, out: Path, key: str) -> list[Path]:
    return [place_folder(out, number, name) for number, name in store.places(key)]


def drop_server_files(server_output: Path | None, job: Job) -> None:
    """Our own server's copies are not needed any more."""
    if server_output is not None:
        for folder in (server_output / PREFIX).glob(f"{job.key[:16]}*"):
            shutil.rmtree(folder, ignore_errors=True)
