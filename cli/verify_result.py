"""Makes results again from their records, in servers of its own; run in the environment. What differs is compared in
verify_compare.

Every record has an outcome of its own: one that cannot be made again does not cost the others theirs.
"""

import http.client
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .demo import run_workflow
from .environment import venv_python
from .errors import CliError
from .input_files import marked_inputs
from .model_search import Found, find_models, server_folders
from .record import local_conditions
from .record_inputs import changed_inputs, check_kept, placed_inputs
from .record_tiling import check_memory, check_same, made_again
from .server import HostServer
from .terminal import Progress, answer
from .verify_compare import compare, fetched_nodes
from .verify_outcome import Outcome, as_json, as_text, changed_conditions
from .workflow import class_types

THREADS_VARIABLE = "OMP_NUM_THREADS"  # torch and the libraries below it take their number of threads from it
DYNAMIC_VARIABLE = "MKL_DYNAMIC"  # if not FALSE, MKL and torch after it take no more threads than there are cores
NO_ANSWER = (OSError, http.client.HTTPException)
NO_CACHE = ("--cache-none",)  # else the host would hand out for one record what it has made for another


def run(records: Mapping[Path, dict], models: Path | None, is_json: bool, host_dir: Path) -> int:
    """Check every record and print the outcomes on stdout, in words as soon as they are known. 0 if all are equal."""
    outcomes: dict[Path, Outcome] = {}
    try:
        for outcome in _outcomes(records, models, host_dir):
            outcomes[Path(outcome.record)] = outcome
            if not is_json:
                answer(as_text(outcome))
    finally:
        if is_json:
            in_order = [outcomes[path] for path in records if path in outcomes]
            print(json.dumps(as_json(in_order, len(records)), ensure_ascii=False))
    return 0 if all(outcome.is_equal for outcome in outcomes.values()) else 1


def _outcomes(records: Mapping[Path, dict], models: Path | None, host_dir: Path) -> Iterator[Outcome]:
    found: dict[Path, Found] = {}
    for path, record in records.items():
        try:
            found[path] = find_models(record, models, host_dir)
            changed = [*found[path].changed, *changed_inputs(path, record)]
        except CliError as failure:
            found.pop(path, None)
            yield Outcome(str(path), problem=str(failure))
        else:
            if changed:
                del found[path]
                yield Outcome(str(path), differences=changed, notes=["nothing was run"])
    for threads, paths in _by_threads(records, found).items():
        folders = server_folders(found[path] for path in paths)
        with _threads(threads):
            yield from _run_group(records, {path: found[path] for path in paths}, folders, host_dir)


def _run_group(
    records: Mapping[Path, dict], found: Mapping[Path, Found], folders: Mapping[str, list[Path]], host_dir: Path
) -> Iterator[Outcome]:
    """In one server, and in a new one where a record that could not be made has left work or a dead server."""
    waiting = list(found)
    while waiting:
        progress = Progress()
        progress.stage("Starting ComfyUI")
        with HostServer(venv_python(), host_dir, model_folders=folders, options=NO_CACHE) as server:
            is_idle = True
            while waiting and is_idle:
                path = waiting.pop(0)
                try:
                    outcome = check(server, path, records[path], progress, found[path].unknown)
                except (CliError, *NO_ANSWER) as failure:
                    outcome = Outcome(str(path), problem=str(failure))
                    is_idle = _is_idle(server)
                yield outcome


def _is_idle(server: HostServer) -> bool:
    try:
        return not any(server.get_json("/queue").values())
    except NO_ANSWER:
        return False


def _by_threads(records: Mapping[Path, dict], found: Mapping[Path, Found]) -> dict[int | None, list[Path]]:
    """The records to run, by the number of threads they were made with."""
    groups: dict[int | None, list[Path]] = {}
    for path in found:
        groups.setdefault(records[path].get("threads"), []).append(path)
    return groups


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Servers started inside compute with that number of threads, whatever this machine has; None: with its own.

    The host's own VAE Decode rounds differently with other numbers of threads (docs/reproducibility.md).
    """
    changes = {} if count is None else {THREADS_VARIABLE: str(count)}
    if count is not None and count > (os.cpu_count() or 1):
        changes[DYNAMIC_VARIABLE] = "FALSE"
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def check(server: HostServer, path: Path, record: dict, progress: Progress, unknown: tuple[str, ...] = ()) -> Outcome:
    """Run the record's workflow on a server of ours that has its models, and compare. Raises CliError if it cannot run.

    `unknown`: models of which the record has no hash.
    """
    outcome = Outcome(
        str(path), notes=[f"{name}: the record does not tell which file of this name" for name in unknown]
    )
    check_same(record)
    known = server.get_json("/object_info")
    _refuse_unknown_nodes(known, record["workflow"])
    check_kept(path, record, {name: marked_inputs(known[name]) for name in class_types(record["workflow"])})
    with placed_inputs(server.base, path, record):
        result = run_workflow(server, record["workflow"], progress, fetched_nodes(record), made_again(record))
    check_memory(record, result.outputs)
    compare(outcome, path, record, result)
    outcome.conditions = changed_conditions(record, local_conditions(server))
    return outcome


def _refuse_unknown_nodes(known: dict, workflow: dict) -> None:
    unknown = sorted(class_types(workflow) - set(known))
    if unknown:
        raise CliError(
            f"the workflow uses {', '.join(unknown)}, which neither ComfyUI nor this pack has; results made with other "
            "node packs cannot be made again here"
        )
