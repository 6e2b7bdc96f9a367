"""What `batch` does in the environment: read the list, open the store, run the jobs, say what came of it."""

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

from .batch_address import shown_address
from .batch_collect import check_done
from .batch_files import SERVER_OUTPUT, place_folder
from .batch_jobs import Named, read_jobs
from .batch_models import ModelHashes
from .batch_run import Runner
from .batch_server import LocalServer, RemoteServer, asked, missing_nodes, model_folders
from .batch_stop import Stop
from .batch_store import OPEN_STATES, Store, Synced, opened_store
from .batch_view import BatchView
from .environment import venv_python
from .errors import CliError
from .server import HostServer
from .terminal import answer, say
from .workflow import class_types


def run(options: argparse.Namespace, host_dir: Path) -> int:
    """Returns 0 if everything is done, 1 if jobs failed. Raises CliError, KeyboardInterrupt (Ctrl-C, state kept)."""
    jobs = read_jobs(options.jobs, options.workflow, options.set, options.seed_policy, options.seed)
    begin = time.monotonic()
    with opened_store(options.out) as store:
        view = prepared(store, options, jobs)
        stop = Stop(view.note)  # above the line that is redrawn
        try:
            if options.ray is not None:
                from .batch_ray import run_on_ray  # not at the top: Ray is an optional package

                run_on_ray(store, options, host_dir, view, stop)
            else:
                asyncio.run(_run(store, options, host_dir, view, stop, jobs))
        finally:
            view.finish()
        summary = summarize(store, options.out, time.monotonic() - begin)
    report(summary, options.json)
    if stop.count:
        say("what is left stays in the list: the same command goes on")
        raise KeyboardInterrupt
    return 1 if summary["failed"] else 0


def prepared(store: Store, options: argparse.Namespace, jobs: list[Named]) -> BatchView:
    """Take the list over and say how it stands."""
    synced = store.sync(jobs)
    for note in check_done(store, options.out):
        say(note)
    if options.retry_failed and (count := store.retry_failed()):
        say(f"{count} failed jobs are tried again")
    counts = store.counts()
    say(describe(synced, counts, options.out))
    return BatchView(sum(counts.values()), counts["done"] + counts["failed"])


def describe(synced: Synced, counts: dict[str, int], out: Path) -> str:
    """One line about what there is to do."""
    rows = synced.added + synced.known
    total = sum(counts.values())
    parts = [f"{rows} rows"] + ([f"{total} different ones"] if total != rows else [])
    parts += [f"{synced.added} new"] if synced.known else []
    parts += [f"{counts['done']} already done"] if counts["done"] else []
    parts += [f"{counts['failed']} failed before (--retry-failed tries them again)"] if counts["failed"] else []
    parts += [f"{synced.unlisted} of earlier lists left alone"] if synced.unlisted else []
    return f"{', '.join(parts)}; results in {out}"


async def _run(
    store: Store, options: argparse.Namespace, host_dir: Path, view: BatchView, stop: Stop, jobs: list[Named]
) -> None:
    if not store.keys(*OPEN_STATES):
        return
    server = remote(options, view) if options.server else local(options, host_dir, view.note)
    try:
        with stop.watching(asyncio.get_running_loop()):
            if await asked(server, stop, lambda address: check_nodes(address, jobs)) is None:
                return
            folders = {} if options.server else model_folders(options.models)
            own_output = None if options.server else options.out / SERVER_OUTPUT
            models = (lambda _workflow: {}) if options.server else ModelHashes(folders)
            await Runner(store, options.out, server, view, stop, options.ahead, models, own_output).run()
    finally:
        server.close()


async def check_nodes(address: str, jobs: list[Named]) -> None:
    """Raises CliError if the server lacks nodes, before anything is queued."""
    wanted = set().union(*(class_types(workflow) for _, workflow in jobs))
    missing = await missing_nodes(address, wanted)
    if missing:
        raise CliError(
            f"the ComfyUI at {shown_address(address)} does not have the nodes {', '.join(missing)}; install the "
            "pack they are from there; nothing was queued"
        )


def remote(options: argparse.Namespace, view: BatchView) -> RemoteServer:
    """The server --server names."""
    return RemoteServer(options.server, options.patience, view.note)


def local(options: argparse.Namespace, host_dir: Path, note: Callable[[str], None]) -> LocalServer:
    """A server of our own, with the models folder and the results' folder of the options."""
    folders = model_folders(options.models)
    output = options.out / SERVER_OUTPUT

    def make() -> HostServer:
        return HostServer(venv_python(), host_dir, model_folders=folders, output=output, input_folder=options.input)

    note("starting ComfyUI")
    return LocalServer(make, note, options.patience)


def summarize(store: Store, out: Path, seconds: float) -> dict:
    """What --json prints."""
    jobs = []
    for key in store.keys(*OPEN_STATES, "done", "failed"):
        job = store.job(key)
        jobs += [
            {
                "number": number,
                "name": name,
                "state": job.state if job.state in ("done", "failed") else "waiting",
                "folder": str(place_folder(out, number, name)) if job.state == "done" else None,
                "run_s": job.run_s,
                "error": job.error,
            }
            for number, name in store.places(key)
        ]
    states = [job["state"] for job in jobs]
    counts = {state: states.count(state) for state in ("done", "failed", "waiting")}
    jobs.sort(key=lambda job: job["number"])
    return {"out": str(out), "total": len(jobs), **counts, "seconds": round(seconds, 3), "jobs": jobs}


def report(summary: dict, is_json: bool) -> None:
    """The result on stdout; for a person, what failed as a table."""
    if is_json:
        print(json.dumps(summary, ensure_ascii=False))
        return
    failed = [job for job in summary["jobs"] if job["state"] == "failed"]
    width = max((len(job["name"]) for job in failed), default=0)
    for job in failed:
        answer(f"failed  {job['number']:04d}  {job['name']:<{width}}  {job['error']}")
    answer(f"{summary['done']} done, {summary['failed']} failed, {summary['waiting']} left: {summary['out']}")
