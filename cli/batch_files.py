"""A job's folder: which files of a run it gets, under which names, and how it appears complete or not at all.

    <number>-<name>/    save_video.mp4            a node with one file
                        save_frames/0001.png ...  a node with several
                        sheet.png                 contact sheet, if anything can be shown
                        settings.json             the record: `job`, and what cli/record.py describes

A folder is filled under a hidden name and renamed when everything is on the disk.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .batch_names import RECORD_NAME, names_in_folder, names_on_server
from .batch_store import Job
from .errors import CliError

PREFIX = "wan_gguf_batch"  # the folder in the server's output folder that all batches' files lie in
SERVER_OUTPUT = ".server"  # in the results' folder: what our own server has saved and is not collected yet
_MAX_ENDING = 20


@dataclass(frozen=True)
class Wanted:
    """One file of a run: where the server has it, and its path in the job's folder."""

    node: str
    entry: dict
    path: str


def posted_workflow(job: Job) -> dict:
    """The workflow as it is given to the server: each saving node writes below a folder of this batch, job and attempt.

    So a run's files are known by their place: one that was cut off never mixes with the next, and what another batch
    has made of the same workflow, with other models or start images perhaps, is never taken for this one's. A prefix
    that is linked to another node is left alone.
    """
    parts = [job.key[:16], *([job.mark] if job.mark else []), *([str(job.attempt)] if job.attempt > 1 else [])]
    folder = f"{PREFIX}/{'-'.join(parts)}"
    saving = [node for node, body in job.workflow.items() if isinstance(body["inputs"].get("filename_prefix"), str)]
    names = names_on_server(saving)
    return {
        node: {**body, "inputs": {**body["inputs"], "filename_prefix": f"{folder}/{names[node]}"}}
        if node in names
        else body
        for node, body in job.workflow.items()
    }


def wanted_files(outputs: dict[str, dict]) -> list[Wanted]:
    """The files that outputs of /history list, saved ones before previews: those count only where nothing was saved."""
    listed = {
        node: [entry for value in output.values() if isinstance(value, list) for entry in value if _is_file(entry)]
        for node, output in sorted(outputs.items())
        if isinstance(output, dict)
    }
    for kind in ("output", "temp"):
        found = {node: chosen for node, entries in listed.items() if (chosen := _of_kind(entries, kind))}
        if found:
            names = names_in_folder(found)
            return [file for node, entries in found.items() for file in _named(node, names[node], entries)]
    return []


def _is_file(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("filename"), str) and entry["filename"] != ""


def _of_kind(entries: list[dict], kind: str) -> list[dict]:
    unique = {(entry.get("subfolder", ""), entry["filename"]): entry for entry in entries if entry.get("type") == kind}
    return list(unique.values())


def _named(node: str, name: str, entries: list[dict]) -> list[Wanted]:
    if len(entries) == 1:
        return [Wanted(node, entries[0], name + _ending(entries[0]))]
    return [
        Wanted(node, entry, f"{name}/{number:04d}{_ending(entry)}") for number, entry in enumerate(entries, start=1)
    ]


def _ending(entry: dict) -> str:
    return re.sub(r"[^0-9A-Za-z.]", "", os.path.splitext(entry["filename"])[1].lower())[:_MAX_ENDING]


def place_folder(out: Path, number: int, name: str) -> Path:
    """Where the result of a place goes."""
    return out / f"{number:04d}-{name}"


def holds_job(folder: Path, key: str) -> bool:
    """Whether this is the complete folder of that job."""
    try:
        record = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
        return record["job"]["key"] == key
    except (OSError, ValueError, LookupError, TypeError):
        return False


def partial_folder(out: Path, key: str) -> Path:
    """An empty folder to fill; what an earlier run left there is removed."""
    folder = out / f".part-{key[:16]}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def write_record(folder: Path, record: dict) -> None:
    """settings.json of a folder that is still being filled."""
    text = json.dumps(record, ensure_ascii=False, indent=2) + "\n"
    # half a surrogate, from a server's words, becomes the escape that JSON has for it
    (folder / RECORD_NAME).write_text(text, encoding="utf-8", errors="backslashreplace")


def publish(partial: Path, key: str, targets: Iterable[Path]) -> None:
    """Give the filled folder its name; where a job has several places, the others get copies. Raises CliError, OSError.

    Places that already hold the job are left; one that holds something else is never replaced.
    """
    missing = [target for target in targets if not holds_job(target, key)]
    for target in missing:
        if target.exists():
            raise CliError(
                f"{target} exists and is not this job's result; move it away, then run the same command again"
            )
    for target in missing[1:]:
        copy = partial.with_name(partial.name + "-copy")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(partial, copy)
        _rename(copy, target)
    if missing:
        _rename(partial, missing[0])
    else:
        shutil.rmtree(partial, ignore_errors=True)


def copy_place(source: Path, key: str, target: Path) -> None:
    """The result of a job once more, for a place that was added to the list later."""
    partial = partial_folder(target.parent, key)
    shutil.copytree(source, partial, dirs_exist_ok=True)
    publish(partial, key, [target])


def _rename(folder: Path, target: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        _flush(path)
    os.rename(folder, target)
    _flush(target.parent)


def _flush(path: Path) -> None:
    """Have it on the disk; Windows cannot open folders for that."""
    if os.name == "nt":
        return
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
