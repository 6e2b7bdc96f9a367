"""Makes results again from their records and says what is equal and what is not; run in the environment."""

import hashlib
import json
import os
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .demo import run_workflow
from .environment import venv_python
from .errors import CliError
from .input_files import marked_inputs
from .model_search import find_models, server_folders
from .output import decode_frames, file_sha256, frames_sha256
from .record import NODES, asked_for, frame_hashes, local_conditions, told_frames_sha256
from .record_form import recorded_files
from .record_inputs import changed_inputs, check_kept, placed_inputs
from .server import HostServer
from .terminal import Progress, answer
from .workflow import class_types

OWN_SAVER = "WanGGUFSaveVideo"  # its files are the same bytes for the same frames; the host's Save Video promises none
THREADS_VARIABLE = "OMP_NUM_THREADS"  # torch and the libraries below it take their number of threads from it
DYNAMIC_VARIABLE = "MKL_DYNAMIC"  # if not FALSE, MKL and torch after it take no more threads than there are cores
CONDITIONS = ("versions", "device", "threads", "cpu_capability", "platform")


@dataclass
class Outcome:
    """What a check has found: equal only if nothing differs. `conditions`: then and now, where they disagree."""

    record: str
    frames: int = 0
    frames_sha256: str | None = None
    differences: list[str] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs."""
        return not self.differences


def run(records: dict[Path, dict], models: Path | None, is_json: bool, host_dir: Path) -> int:
    """Check every record, print the outcomes on stdout. 0 if all are equal, else 1."""
    found = {path: find_models(record, models, host_dir) for path, record in records.items()}
    changed = {path: [*found[path].changed, *changed_inputs(path, record)] for path, record in records.items()}
    outcomes = {path: _not_run(path, lines) for path, lines in changed.items() if lines}
    progress = Progress()
    for threads, paths in _by_threads(records, outcomes).items():
        progress.stage("Starting ComfyUI")
        folders = server_folders(found[path] for path in paths)
        with _threads(threads), HostServer(venv_python(), host_dir, model_folders=folders) as server:
            for path in paths:
                outcomes[path] = check(server, path, records[path], progress, found[path].unknown)
    in_order = [outcomes[path] for path in records]
    if is_json:
        print(json.dumps(_as_json(in_order), ensure_ascii=False))
    else:
        answer("\n".join(map(as_text, in_order)))
    return 0 if all(outcome.is_equal for outcome in in_order) else 1


def _by_threads(records: dict[Path, dict], done: Container[Path]) -> dict[int | None, list[Path]]:
    """The records still to run, by the number of threads they were made with."""
    groups: dict[int | None, list[Path]] = {}
    for path, record in records.items():
        if path not in done:
            groups.setdefault(record.get("threads"), []).append(path)
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
    known = server.get_json("/object_info")
    _refuse_unknown_nodes(known, record["workflow"])
    check_kept(path, record, {name: marked_inputs(known[name]) for name in class_types(record["workflow"])})
    _check_files(outcome, path, record)
    nodes = {kind: node for kind, node in {**NODES, **record.get("nodes", {})}.items() if node in record["workflow"]}
    with placed_inputs(server.base, path, record):
        result = run_workflow(server, record["workflow"], progress, tuple(nodes.values()))
    files = {kind: result.files[node] for kind, node in nodes.items()}
    _compare_asked_for(outcome, record, asked_for(record["workflow"], result))
    frames = decode_frames(files.get("frames", []))
    outcome.frames, outcome.frames_sha256 = len(frames), frames_sha256(frames)
    if "frames" not in nodes:
        outcome.frames_sha256 = told_frames_sha256(result.outputs)
    are_frames = _compare_frames(outcome, record, frame_hashes(frames))
    are_videos = _compare_video(outcome, record, nodes.get("video"), files.get("video", []))
    if not (are_frames or are_videos):
        raise CliError(f"{path} has no hash of frames, nor of a video whose bytes are certain; nothing can be compared")
    outcome.conditions = changed_conditions(record, local_conditions(server))
    return outcome


def _refuse_unknown_nodes(known: dict, workflow: dict) -> None:
    unknown = sorted(class_types(workflow) - set(known))
    if unknown:
        raise CliError(
            f"the workflow uses {', '.join(unknown)}, which neither ComfyUI nor this pack has; results made with other "
            "node packs cannot be made again here"
        )


def _check_files(outcome: Outcome, path: Path, record: dict) -> None:
    """The files beside the record are still those that were written."""
    for name, wanted in recorded_files(record).items():
        file = path.parent / name
        if not file.is_file():
            outcome.notes.append(f"{name} is not beside the record, so it was not compared")
        elif file_sha256(file) != wanted:
            outcome.differences.append(f"{name} is not the file that was recorded")


def _compare_asked_for(outcome: Outcome, record: dict, now: dict) -> None:
    """Settings and language in the record are those of its workflow; now: {} if the workflow has none to tell."""
    then = {**record.get("settings", {}), "language": record.get("language")}
    made = {**now.get("settings", {}), "language": now["language"]} if now else {}
    for name, value in made.items():
        if then.get(name, value) != value:
            outcome.differences.append(f"{name}: the record says {then[name]!r}, its workflow gives {value!r}")


def _compare_frames(outcome: Outcome, record: dict, now: list[str]) -> bool:
    """False where the record has no hash of frames."""
    then, count = record.get("frame_hashes"), len(now)
    if record["frames_sha256"] is None:
        return False
    if outcome.frames_sha256 == record["frames_sha256"]:
        if then is not None and then != now:
            outcome.differences.append("frame_hashes do not belong to frames_sha256: the record was edited")
    elif then is None:
        outcome.differences.append("the frames differ (the record has no hashes of single frames)")
    elif len(then) != count:
        outcome.differences.append(f"the record has {len(then)} frames, its workflow gives {count}")
    elif then == now:
        outcome.differences.append("frames_sha256 does not belong to frame_hashes: the record was edited")
    else:
        wrong = [number for number in range(count) if then[number] != now[number]]
        outcome.differences.append(f"{len(wrong)} of {count} frames differ, the first is frame {wrong[0]} (from 0)")
    return True


def _compare_video(outcome: Outcome, record: dict, node: str | None, videos: list[bytes]) -> bool:
    """Encoded bytes count where the node promises them, else they are only told; False where they do not count."""
    wanted = record.get("video_sha256")
    if wanted is None or node is None:
        return False
    is_certain = record["workflow"][node]["class_type"] == OWN_SAVER
    if wanted not in [hashlib.sha256(video).hexdigest() for video in videos]:
        if is_certain:
            outcome.differences.append("the encoded video has other bytes")
        elif outcome.is_equal:
            outcome.notes.append("the video was encoded to other bytes, as ComfyUI's Save Video may do")
    return is_certain


def changed_conditions(record: dict, now: dict) -> list[str]:
    """ "torch: then 2.11.0, now 2.12.0" for everything that is known of both and not the same."""
    then_all, now_all = _flat(record), _flat(now)
    return [
        f"{name}: then {then_all[name]}, now {value}"
        for name, value in now_all.items()
        if then_all.get(name) is not None and value is not None and then_all[name] != value
    ]


def _flat(record: dict) -> dict:
    known = {name: record[name] for name in CONDITIONS if name in record}
    versions = known.pop("versions", {})
    return {**(versions if isinstance(versions, dict) else {}), **known}


def _not_run(path: Path, changed: list[str]) -> Outcome:
    return Outcome(str(path), differences=changed, notes=["nothing was run"])


def as_text(outcome: Outcome) -> str:
    """A line that says it, and one for each thing that differs."""
    if outcome.is_equal:
        count = f", {outcome.frames} frames" if outcome.frames else ""
        head = f"{outcome.record}: equal{count}, {outcome.frames_sha256 or 'the video file'}"
    else:
        head = f"{outcome.record}: DIFFERENT"
    lines = [f"  {text}" for text in [*outcome.differences, *outcome.notes]]
    if outcome.differences and outcome.conditions:
        lines += ["  made under other conditions:", *(f"    {text}" for text in outcome.conditions)]
    return "\n".join([head, *lines])


def _as_json(outcomes: list[Outcome]) -> dict:
    results = [{"is_equal": outcome.is_equal, **asdict(outcome)} for outcome in outcomes]
    return {"is_equal": all(outcome.is_equal for outcome in outcomes), "results": results}
