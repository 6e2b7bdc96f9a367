"""Reading a result's record back: a file that anyone may have written, so nothing in it is taken for granted.

The workflow in it is run by a host that has its own nodes and this pack's and no others; what is checked here is that
the record has the form described in `record` and that its file names stay inside the folders they are looked up in.
"""

import hashlib
import json
import re
from pathlib import Path

from .batch_names import SHEET_NAME
from .errors import UsageError
from .input_files import place_of, stays_inside
from .record_tiling import is_tiling
from .redrawn_line import printable

NEWEST_VERSION = 1
MAX_RECORD_BYTES, MAX_NODES, MAX_FRAMES, MAX_THREADS = 16 << 20, 10_000, 1_000_000, 1024
_OF_NOTHING = hashlib.sha256(b"").hexdigest()
_SHA256, _FRAME_HASH = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{16}")


def read_record(path: Path) -> dict:
    """The record in a file. Raises UsageError in one line that names the file, what is wrong and what to do."""
    record = _read_json(path)
    missing = [key for key in ("workflow", "models", "frames_sha256") if key not in record]
    if missing:
        raise UsageError(
            f"{path} is not the record of a result: it has no {', no '.join(missing)}; "
            "name the .json that was written beside a video"
        )
    version = record.get("record_version", NEWEST_VERSION)
    if version != NEWEST_VERSION:
        raise UsageError(f"{path} has record_version {version!r}, this pack reads {NEWEST_VERSION}; update the pack")
    for find in (_workflow_problem, _hash_problem, _node_problem, _kind_problem, _input_problem, _name_problem):
        problem = find(record)
        if problem is not None:
            raise UsageError(f"{path} is damaged or was edited: {problem}")
    return record


def _read_json(path: Path) -> dict:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_RECORD_BYTES + 1)
    except OSError as failure:
        raise UsageError(f"{path} cannot be read: {failure.strerror}") from failure
    if len(data) > MAX_RECORD_BYTES:
        raise UsageError(f"{path} is larger than {MAX_RECORD_BYTES >> 20} MiB, which no record is")
    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as failure:
        raise UsageError(
            f"{path} is not JSON ({type(failure).__name__}); name the .json that was written beside a video"
        ) from failure
    if not isinstance(record, dict):
        raise UsageError(f"{path} is not the record of a result: it holds a {type(record).__name__}, not an object")
    return record


def _workflow_problem(record: dict) -> str | None:
    workflow = record["workflow"]
    if not isinstance(workflow, dict) or not 0 < len(workflow) <= MAX_NODES:
        return f"its workflow is not an object of 1 to {MAX_NODES} nodes"
    for name, node in workflow.items():
        if not isinstance(node, dict) or not _is_plain(node.get("class_type")) or type(node.get("inputs")) is not dict:
            return f"the node {name!r} of its workflow has no class_type or no inputs"
        wrapped = [name for name, value in node["inputs"].items() if _hides_a_name(value)]
        if wrapped:
            return f"the input {wrapped[0]!r} of the node {name!r} is wrapped, so that its value is not seen"
        meta = node.get("_meta", {})
        if not isinstance(meta, dict) or not _is_plain(meta.get("title", "")):
            return f"the node {name!r} of its workflow has no usable title"
    return None


def _is_plain(value: object) -> bool:
    """Text that can be shown: no line ends, nothing that moves a terminal's cursor."""
    return isinstance(value, str) and printable(value) == value and "\n" not in value and "\t" not in value


def _hides_a_name(value: object) -> bool:
    """The host takes `{"__value__": x}` for x; its own programs wrap lists, which would else be links."""
    return isinstance(value, dict) and not isinstance(value.get("__value__", []), list)


def _hash_problem(record: dict) -> str | None:
    """Any of them may be null: frames or a video that were not saved, model files on another machine."""
    for key in ("frames_sha256", "video_sha256", "contact_sheet_sha256"):
        if record.get(key) is not None and not _is_hash(record[key]):
            return f"{key} is not 64 hexadecimal digits"
    models = record["models"]
    if not isinstance(models, dict) or not all(value is None or _is_hash(value) for value in models.values()):
        return "models is not an object of file names and SHA-256"
    if record["frames_sha256"] == _OF_NOTHING:
        return "frames_sha256 is the hash of no frames"
    frames = record.get("frame_hashes")
    if frames is None:
        return None
    if record["frames_sha256"] is None:
        return "it has frame_hashes and no frames_sha256"
    if (
        not isinstance(frames, list)
        or len(frames) > MAX_FRAMES
        or not all(_is_hash(one, _FRAME_HASH) for one in frames)
    ):
        return "frame_hashes is not a list of 16 hexadecimal digits for each frame"
    return None


def _is_hash(value: object, form: re.Pattern = _SHA256) -> bool:
    return isinstance(value, str) and form.fullmatch(value) is not None


def _node_problem(record: dict) -> str | None:
    nodes = record.get("nodes", {})
    if not isinstance(nodes, dict):
        return "nodes is not an object"
    named = [name for name in nodes.values() if name is not None]
    missing = [name for name in named if not isinstance(name, str) or name not in record["workflow"]]
    return f"its workflow has no node {missing[0]!r}" if missing else None


def _kind_problem(record: dict) -> str | None:
    for key in ("files", "settings"):
        if not isinstance(record.get(key, {}), dict):
            return f"{key} is not an object"
    threads = record.get("threads")
    if threads is not None and not (type(threads) is int and 1 <= threads <= MAX_THREADS):
        return f"threads is not a number from 1 to {MAX_THREADS}"
    tiling = record.get("tiling", {})
    if not isinstance(tiling, dict) or not all(is_tiling(value) for value in tiling.values()):
        return 'tiling is not an object of nodes and "off", null or tile_px and overlap_px'
    return None


def _input_problem(record: dict) -> str | None:
    """A kept file is put under its name into a server's folder, which the name must not leave either."""
    inputs = record.get("inputs", {})
    if not isinstance(inputs, dict):
        return "inputs is not an object"
    for name, kept in inputs.items():
        if kept is None:
            continue
        if not isinstance(kept, dict) or not isinstance(kept.get("file"), str) or not _is_hash(kept.get("sha256")):
            return f"the input {name!r} has no file or no SHA-256"
        if place_of(name) is None:
            return f"the name of the input {name!r} leads out of ComfyUI's folders"
    return None


def _name_problem(record: dict) -> str | None:
    """File names: of models and of the files beside the record; both may be in subfolders."""
    files = [name for item in record.get("files", {}).items() for name in item]
    files += [kept["file"] for kept in record.get("inputs", {}).values() if kept is not None]
    outside = [name for name in [*record["models"], *files] if not isinstance(name, str) or not _stays_inside(name)]
    return f"the file name {outside[0]!r} leads out of its folder" if outside else None


def recorded_files(record: dict) -> dict[str, str]:
    """The files beside a record -> SHA-256, as far as it is known.

    `demo` writes the name of each kind of file and <kind>_sha256; `batch` writes the SHA-256 of each name, and that of
    sheet.png as the contact sheet's.
    """
    files, sheet = record.get("files", {}), record.get("contact_sheet_sha256")
    if "video" in files:
        return {files[kind]: record[f"{kind}_sha256"] for kind in files if record.get(f"{kind}_sha256")}
    return {name: value for name, value in files.items() if _is_hash(value)} | ({SHEET_NAME: sheet} if sheet else {})


def _stays_inside(name: str) -> bool:
    """Whether folder / name is below the folder, and can be shown."""
    return _is_plain(name) and stays_inside(name)
