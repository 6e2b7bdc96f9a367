"""A result's record: everything needed to make the same frames again, and to see what differs if they are not the same.

It lies beside the video as JSON. Version 1; other programs of this pack may add keys of their own:

    record_version   1
    settings         what was asked for, by the names of the command line; negative: the text that was used
    language         of the prompt, as the prompt node found it
    models           file name, as in the workflow -> SHA-256
    inputs           start image or the like, as the workflow names it -> {"file": where it is kept beside the record,
                     "sha256"}; null: it could not be fetched
    frames_sha256    of the raw RGB bytes of all frames in order
    frame_hashes     the first 16 hex digits of the same for each frame
    video_sha256     of the video file; contact_sheet_sha256 of the demo's sheet
    tiling           nodes that decoded -> "off" or the tiles they took, see record_tiling.py
    versions         of this pack, ComfyUI, torch, Python and the packages that compute
    device, threads, cpu_capability, platform      where it was computed; null where it is not known
    nodes            which nodes of the workflow gave the frames and the video
    workflow         as ComfyUI's API takes it; running it is what makes the frames
"""

import hashlib
import importlib.metadata
import platform
import re
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from .client import Result
from .errors import CliError
from .model_names import model_names
from .output import file_sha256, frames_sha256
from .paths import MODEL_FILES
from .record_tiling import told_records, told_tiling
from .requirements import pack_version
from .server import HostServer
from .workflow import SETTINGS, settings_of

RECORD_VERSION = 1
VIDEO_NODE, FRAMES_NODE = "save_video", "save_frames"  # of the bundled workflow
NODES = {"video": VIDEO_NODE, "frames": FRAMES_NODE}
HASH_DIGITS = 16  # of a frame: 64 bits find the frame that differs, the whole hash decides
_COMPUTING = ("comfy-kitchen", "llvmlite", "numpy", "triton")


def make_record(
    workflow: dict,
    result: Result,
    frames: list[Image.Image],
    video: bytes | None,
    models: dict[str, str],
    conditions: dict,
    nodes: dict[str, str] = NODES,
) -> dict:
    """The record of a finished run. `models` comes from model_hashes, `conditions` from local_ or remote_conditions."""
    return {
        "record_version": RECORD_VERSION,
        **asked_for(workflow, result),
        "models": models,
        "frames_sha256": frames_sha256(frames),
        "frame_hashes": frame_hashes(frames),
        "video_sha256": None if video is None else hashlib.sha256(video).hexdigest(),
        "tiling": told_tiling(result.outputs),
        **conditions,
        "nodes": dict(nodes),
        "workflow": workflow,
    }


def asked_for(workflow: dict, result: Result) -> dict:
    """{"settings", "language"} if the workflow has the bundled one's nodes, whatever lies around them; else {}."""
    if any(key not in workflow.get(node, {}).get("inputs", {}) for node, key in SETTINGS.values()):
        return {}
    language, negative = read_prompt_report(result.outputs.get("prompt", {}))
    return {"settings": {**settings_of(workflow), "negative": negative}, "language": language}


def read_prompt_report(output: dict) -> tuple[str, str]:
    """The prompt node's display -> (language code, negative prompt that was used).

    Its text is the language with its code in brackets, then a line `- <negative>`. Raises CliError if it is not there.
    """
    shown = "".join(text for text in _texts(output) if isinstance(text, str))
    match = re.match(r"[^\n]*\((\w+)\)\n- (.*)", shown, re.DOTALL)
    if match is None:
        raise CliError(f"the prompt node did not report language and negative prompt, but '{shown}'")
    return match.group(1), match.group(2)


def _texts(output: object) -> list | tuple:
    """What a node shows; another server's node of that name may show anything."""
    texts = output.get("text") if isinstance(output, dict) else None
    return texts if isinstance(texts, list | tuple) else ()


def frame_hashes(frames: list[Image.Image]) -> list[str]:
    """The beginning of the SHA-256 of each frame's raw RGB bytes."""
    return [hashlib.sha256(frame.tobytes()).hexdigest()[:HASH_DIGITS] for frame in frames]


def told_frames_sha256(outputs: dict) -> str | None:
    """The hash of the frames as 'Wan GGUF Save Video' tells it in its output, where the run made one video."""
    hashes = [record.get("frames_sha256") for output in outputs.values() for record in told_records(output)]
    return hashes[0] if len(hashes) == 1 and isinstance(hashes[0], str) else None


def model_hashes(workflow: dict, folders: Iterable[Path] = ()) -> dict[str, str]:
    """Name -> SHA-256 of every model file; found in `folders` or with the reference model. Raises CliError."""
    places, found = [*folders, MODEL_FILES], {}
    for name, kind in model_names(workflow).items():
        files = [folder / name for folder in places if (folder / name).is_file()]
        if not files:
            shown = ", ".join(str(folder) for folder in places)
            raise CliError(f"the workflow names the file '{name}' ({kind}), which is not in {shown}")
        found[name] = file_sha256(files[0])
    return found


def local_conditions(server: HostServer) -> dict:
    """Where a server that this program has started computes: as remote_conditions, and what its process knows."""
    facts = server.facts()
    versions = {"wan_gguf": pack_version(), **{name: _version(name) for name in _COMPUTING}}
    remote = remote_conditions(server.get_json("/system_stats"))
    return {
        "versions": {**remote["versions"], **{name: known for name, known in versions.items() if known}},
        "device": remote["device"],
        "threads": facts.get("threads"),
        "cpu_capability": facts.get("cpu_capability"),
        "platform": platform.platform(),
    }


def remote_conditions(stats: dict) -> dict:
    """What any server's /system_stats tells of where it computes."""
    system, devices = stats["system"], stats["devices"]
    python = str(system.get("python_version") or "").split()
    versions = {
        "comfyui": system.get("comfyui_version"),
        "torch": system.get("pytorch_version"),
        "python": python[0] if python else None,
    }
    return {
        "versions": versions,
        "device": devices[0]["name"] if devices else None,
        "threads": None,
        "cpu_capability": None,
        "platform": system.get("os"),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
