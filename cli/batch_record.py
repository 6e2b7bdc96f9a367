"""The record of a job of a batch: what cli/record.py describes, as far as it can be known of any workflow anywhere."""

from dataclasses import dataclass
from pathlib import Path

from .batch_files import Wanted, posted_workflow, write_record
from .batch_names import SHEET_NAME
from .batch_pictures import IMAGE_ENDS, VIDEO_ENDS, ImageFiles, UndrawableError, check_readable, make_sheet
from .batch_store import Job
from .client import Result
from .errors import CliError
from .model_names import model_names
from .output import file_sha256, png_bytes
from .record import make_record, told_frames_sha256
from .record_tiling import OWN_SAVER, joined_tiling
from .video_tag import own_tag

_BRIEF = ("seed", "noise_seed", "steps", "cfg", "shift")


@dataclass(frozen=True)
class Conditions:
    """Where a job is computed: record.local_ or remote_conditions, hashes of model files, the whole system report."""

    facts: dict
    models: dict[str, str]
    stats: dict


def finish_folder(
    folder: Path, job: Job, files: list[Wanted], conditions: Conditions, inputs: dict[str, dict | None]
) -> list[str]:
    """Add sheet.png and settings.json to the downloaded files; `inputs` is what batch_inputs kept there.

    Returns what a sound file did not allow. Raises DamagedFileError, OSError (the disk).
    """
    images, videos = _images(folder, files), _of_ends(folder, files, VIDEO_ENDS)
    pictures = [path for _, path in _of_ends(folder, files, IMAGE_ENDS + VIDEO_ENDS)]
    read_below = [path for _, path in [*videos[:1], *images]]
    check_readable([path for path in pictures if path not in read_below])
    workflow, notes, sheet_sha256 = posted_workflow(job), [], None
    title, fps = _title(workflow), _fps(workflow)
    try:
        sheet = make_sheet([path for _, path in videos], [path for _, path in images], title, fps)
        if sheet is not None:
            (folder / SHEET_NAME).write_bytes(png_bytes(sheet))
            sheet_sha256 = file_sha256(folder / SHEET_NAME)
    except UndrawableError as reason:
        notes.append(f"no contact sheet: {reason}")
    try:
        record = _record(folder, job, workflow, files, conditions, images)
    except UndrawableError as reason:
        notes.append(f"no hash of its frames: {reason}")
        record = _record(folder, job, workflow, files, conditions, [])
    write_record(folder, record | {"inputs": inputs, "contact_sheet_sha256": sheet_sha256})
    return notes


def _record(
    folder: Path, job: Job, workflow: dict, files: list[Wanted], conditions: Conditions, images: list[tuple[str, Path]]
) -> dict:
    videos = _of_ends(folder, files, VIDEO_ENDS)
    nodes = {"video": videos[0][0] if videos else None, "frames": images[0][0] if images else None}
    frames = ImageFiles([path for _, path in images])
    video = videos[0][1].read_bytes() if videos else None
    made = Result(job.outputs, {}, {})
    parts = (frames, video, _known_models(workflow, conditions.models), conditions.facts, nodes)
    try:
        record = make_record(workflow, made, *parts)
    except CliError:  # found again after the server's end: its files are there, what its nodes have shown is not
        record = make_record({}, made, *parts) | {"workflow": workflow}
    silent = [video for video in videos if _is_own(workflow, video[0]) and video[0] not in record["tiling"]]
    record["tiling"] |= joined_tiling((node, own_tag(path)) for node, path in silent)
    if not images:  # a video is not what was computed, but its encoding
        record |= {"frames_sha256": told_frames_sha256(job.outputs), "frame_hashes": None}
    about = {"number": job.number, "name": job.name, "key": job.key, "attempt": job.attempt, "run_s": job.run_s}
    return {
        "job": about,
        **record,
        "files": {file.path: file_sha256(folder / file.path) for file in files},
        "system_stats": conditions.stats,
    }


def _is_own(workflow: dict, node: str) -> bool:
    return workflow.get(node, {}).get("class_type") == OWN_SAVER


def _known_models(workflow: dict, models: dict[str, str]) -> dict[str, str | None]:
    """Every model file that the workflow names; None where the file is out of reach, on another machine."""
    return {name: models.get(name) for name in model_names(workflow)}


def _of_ends(folder: Path, files: list[Wanted], ends: tuple[str, ...]) -> list[tuple[str, Path]]:
    return [(file.node, folder / file.path) for file in files if file.path.endswith(ends)]


def _images(folder: Path, files: list[Wanted]) -> list[tuple[str, Path]]:
    """The images of the node that made most of them: the frames."""
    found = _of_ends(folder, files, IMAGE_ENDS)
    counts: dict[str, int] = {}
    for node, _ in found:
        counts[node] = counts.get(node, 0) + 1
    most = max(counts, key=lambda node: counts[node], default=None)
    return [(node, path) for node, path in found if node == most]


def _title(workflow: dict) -> str:
    """What the sheet says above the frames: seed, steps and the like, where the workflow has one of each."""
    found: dict[str, set] = {}
    for body in workflow.values():
        for name in _BRIEF:
            value = body["inputs"].get(name)
            if isinstance(value, int | float):
                found.setdefault(name, set()).add(value)
    return "   ".join(f"{name} {values.pop()}" for name, values in found.items() if len(values) == 1)


def _fps(workflow: dict) -> float | None:
    rates = {body["inputs"]["fps"] for body in workflow.values() if isinstance(body["inputs"].get("fps"), int | float)}
    return float(rates.pop()) if len(rates) == 1 else None
