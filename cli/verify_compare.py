"""A record, and the files beside it, against what its workflow has just made again.

The record may have been edited, so what is compared does not follow from it alone: the videos of this pack's saver are
always compared, because their bytes are certain (the host's Save Video promises none), and a file that nothing was
compared with is named.
"""

import hashlib
from pathlib import Path

from PIL import Image

from .batch_pictures import IMAGE_ENDS, VIDEO_ENDS
from .client import Result
from .errors import CliError
from .output import decode_frames, file_sha256, frames_sha256
from .record import NODES, asked_for, frame_hashes, told_frames_sha256
from .record_form import recorded_files
from .record_tiling import OWN_SAVER
from .verify_outcome import Outcome


class Made:
    """What the workflow made: its frames, the hashes of its files."""

    def __init__(self, record: dict, result: Result):
        workflow, nodes = record["workflow"], _nodes(record)
        self.saves_frames = "frames" in nodes
        self.frames = decode_frames(result.files[nodes["frames"]]) if self.saves_frames else []
        self.frame_hashes = frame_hashes(self.frames)
        self.frames_sha256 = frames_sha256(self.frames) if self.saves_frames else told_frames_sha256(result.outputs)
        self.files = {hashlib.sha256(file).hexdigest() for files in result.files.values() for file in files}
        own = [node for node in workflow if workflow[node]["class_type"] == OWN_SAVER]
        self.certain_videos = {hashlib.sha256(file).hexdigest() for node in own for file in result.files[node]}
        shown = [name for node in result.outputs if node not in own for name in _file_names(result.outputs[node])]
        self.has_other_videos = any(name.lower().endswith(VIDEO_ENDS) for name in shown)


def fetched_nodes(record: dict) -> tuple[str, ...]:
    """The nodes whose files are to be compared."""
    workflow = record["workflow"]
    own = [node for node in workflow if workflow[node]["class_type"] == OWN_SAVER]
    return tuple(dict.fromkeys([*_nodes(record).values(), *own]))


def compare(outcome: Outcome, path: Path, record: dict, result: Result) -> None:
    """Everything that can be compared. Raises CliError if the record has no hash that would be certain."""
    made = Made(record, result)
    outcome.frames, outcome.frames_sha256 = len(made.frames), made.frames_sha256
    _compare_asked_for(outcome, record, asked_for(record["workflow"], result))
    are_frames = _compare_frames(outcome, record, made)
    are_videos = _compare_video(outcome, record, made)
    if not (are_frames or are_videos):
        raise CliError(f"{path} has no hash of frames, nor of a video whose bytes are certain; nothing can be compared")
    _compare_files(outcome, path, record, made)


def _nodes(record: dict) -> dict[str, str]:
    return {kind: node for kind, node in {**NODES, **record.get("nodes", {})}.items() if node in record["workflow"]}


def _file_names(output: dict) -> list[str]:
    entries = [entry for found in output.values() if isinstance(found, list) for entry in found]
    return [str(entry["filename"]) for entry in entries if isinstance(entry, dict) and "filename" in entry]


def _compare_asked_for(outcome: Outcome, record: dict, now: dict) -> None:
    """Settings and language in the record are those of its workflow; now: {} if the workflow has none to tell."""
    then = {**record.get("settings", {}), "language": record.get("language")}
    made = {**now.get("settings", {}), "language": now["language"]} if now else {}
    for name, value in made.items():
        if then.get(name, value) != value:
            outcome.differences.append(f"{name}: the record says {then[name]!r}, its workflow gives {value!r}")


def _compare_frames(outcome: Outcome, record: dict, made: Made) -> bool:
    """False where the record has no hash of frames."""
    then, now, count = record.get("frame_hashes"), made.frame_hashes, len(made.frames)
    if record["frames_sha256"] is None:
        return False
    if made.frames_sha256 == record["frames_sha256"]:
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


def _compare_video(outcome: Outcome, record: dict, made: Made) -> bool:
    """Encoded bytes count where the node promises them, else they are only told; False where they do not count."""
    wanted, node = record.get("video_sha256"), _nodes(record).get("video")
    if wanted is None or (node is None and not made.certain_videos):
        return False
    if wanted in made.certain_videos:
        return True
    is_own = node is not None and record["workflow"][node]["class_type"] == OWN_SAVER
    if is_own or (made.certain_videos and not made.has_other_videos):
        outcome.differences.append("the encoded video has other bytes")
        return True
    if wanted not in made.files and outcome.is_equal:
        outcome.notes.append("the video was encoded to other bytes, as ComfyUI's Save Video may do")
    return False


def _compare_files(outcome: Outcome, path: Path, record: dict, made: Made) -> None:
    """The files beside the record are still those that were written, and what the workflow makes."""
    recorded = recorded_files(record)
    only_hash, without = [], []
    for name in dict.fromkeys([*recorded, *_beside(path)]):
        file, wanted = path.parent / name, recorded.get(name)
        if not file.is_file():
            outcome.notes.append(f"{name} is not beside the record, so it was not compared")
            continue
        sha256 = file_sha256(file)
        if wanted not in (None, sha256):
            outcome.differences.append(f"{name} is not the file that was recorded")
        elif sha256 in made.files or _is_made_frame(file, made):
            continue
        elif file.suffix.lower() in VIDEO_ENDS and made.certain_videos and not made.has_other_videos:
            outcome.differences.append(f"{name} is not the video that the workflow makes")
        else:
            (without if wanted is None else only_hash).append(name)
    if only_hash:
        outcome.notes.append(f"compared with its hash in the record only: {', '.join(only_hash)}")
    if without:
        outcome.notes.append(f"not compared with anything: {', '.join(without)}")


def _beside(path: Path) -> list[str]:
    """Files that pass for the record's: those with its name and another ending."""
    try:
        found = [other.name for other in path.parent.iterdir() if other.stem == path.stem and other != path]
    except OSError:
        return []
    return sorted(name for name in found if (path.parent / name).is_file())


def _is_made_frame(file: Path, made: Made) -> bool:
    """Whether the pixels of a picture are those of one of the frames; its file may have other words in it."""
    if file.suffix.lower() not in IMAGE_ENDS:
        return False
    try:
        with Image.open(file) as image:
            return frame_hashes([image.convert("RGB")])[0] in made.frame_hashes
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
