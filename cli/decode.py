"""Finishing a decode, run in the environment: the latent's own settings, a server with its VAE, the files in place.

The host writes into a hidden folder beside the finished files, which are then renamed, so a run that is stopped leaves
nothing under a name that someone would take for a video.
"""

import argparse
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..loaders.describe import vae_latent_channels
from ..loaders.safetensors_header import read_header
from .client import Result
from .demo import run_workflow
from .environment import venv_python
from .errors import CliError, UsageError
from .lock import locked
from .paths import MODEL_FILES, STATE
from .server import HostServer
from .terminal import Progress
from .workflow import class_types

EXTENSION = ".latent"
# inputs of Save Video that a latent remembers, and their values where it does not
DEFAULTS = {"codec": "h264", "crf": -1, "pixel_format": "auto", "fps": 0.0, "tiling": "auto"}
VAE_FILES = {16: "wan_2.1_vae.safetensors", 48: "wan2.2_vae.safetensors"}  # latent channels -> the published name
_KINDS = {"codec": str, "crf": int, "pixel_format": str, "fps": (int, float), "tiling": str}


@dataclass(frozen=True)
class Job:
    """A latent file and what it remembers of the run that made it."""

    latent: Path
    channels: int
    video: dict[str, Any]
    vae_name: str | None


def run(options: argparse.Namespace, host_dir: Path) -> int:
    """Make the files, print their paths (or one JSON object) on stdout."""
    job = read_job(_absolute(options.latent))
    vae = _chosen_vae(options.vae, job, host_dir)
    folder = job.latent.parent if options.out is None else _absolute(options.out)
    given = {name: getattr(options, name) for name in DEFAULTS}
    settings = job.video | {name: value for name, value in given.items() if value is not None}
    progress = Progress()
    progress.stage("Starting ComfyUI")
    workflow = make_workflow(job, vae, settings)
    with _work_folder(folder) as work:
        model_folders = {} if vae.parent == MODEL_FILES else {"vae": [vae.parent]}
        with HostServer(
            venv_python(), host_dir, class_types(workflow), model_folders=model_folders, output=work
        ) as server:
            shutil.copy(job.latent, server.base / "input" / _latent_name(job))
            result = run_workflow(server, workflow, progress, ())
        placed = _place_all(result, work, folder, job.latent.stem)
    progress.finish()
    print(json.dumps({"videos": placed}, ensure_ascii=False) if options.json else "\n".join(_paths(placed)))
    return 0


def read_job(latent: Path) -> Job:
    """What the file says, from its header only. Raises UsageError."""
    if not latent.is_file():
        raise UsageError(f"{latent} is no file; name a .latent file, as 'Wan GGUF Save Video' keeps it")
    try:
        entries, metadata = read_header(latent)
    except ValueError as error:
        raise UsageError(f"{latent} is no latent: {error}") from error
    entry = entries.get("latent_tensor")
    if entry is None or len(entry.shape) != 5:
        raise UsageError(f"{latent} holds no video latent; name a .latent file, as 'Wan GGUF Save Video' keeps it")
    own = _read_settings(metadata.get("wan_gguf"))
    video = own.get("video") if isinstance(own.get("video"), dict) else {}
    kept = {name: video[name] for name in DEFAULTS if isinstance(video.get(name), _KINDS[name])}
    vae_name = own.get("vae_name")
    return Job(latent, entry.shape[1], kept, vae_name if isinstance(vae_name, str) else None)


def find_vae(job: Job, host_dir: Path) -> Path:
    """The VAE that the job was made with, if it is here. Raises UsageError that names the file."""
    if job.vae_name is not None and _is_plain(job.vae_name):
        for folder in (MODEL_FILES, host_dir / "models" / "vae"):
            if (folder / job.vae_name).is_file():
                return folder / job.vae_name
    published = VAE_FILES.get(job.channels, "the VAE of its model")
    if job.vae_name is None:
        raise UsageError(f"{job.latent.name} does not say which VAE it needs; it has {job.channels} channels, so name "
                         f"{published} with --vae FILE")  # fmt: skip
    raise UsageError(f"{job.latent.name} was made with the VAE {job.vae_name}, which is not here; name it: --vae FILE")


def make_workflow(job: Job, vae: Path, settings: dict[str, Any]) -> dict:
    """Load Latent, Load VAE and Save Video in API form."""
    inputs = {"samples": ["latent", 0], "vae": ["vae", 0], "filename_prefix": "video", "images": False}
    inputs |= {"keep_latent": True, **DEFAULTS, **settings}
    return {
        "latent": {
            "class_type": "WanGGUFLoadLatent",
            "inputs": {"latent_name": f"{_latent_name(job)} [input]"},
            "_meta": {"title": "Reading the latent"},
        },
        "vae": {
            "class_type": "VAELoader",
            "inputs": {"vae_name": vae.name},
            "_meta": {"title": "Loading the VAE"},
        },
        "save_video": {
            "class_type": "WanGGUFSaveVideo",
            "inputs": inputs,
            "_meta": {"title": "Decoding"},
        },
    }


def _chosen_vae(named: Path | None, job: Job, host_dir: Path) -> Path:
    vae = find_vae(job, host_dir) if named is None else _absolute(named)
    if not vae.is_file() or vae.suffix != ".safetensors":
        raise UsageError(f"--vae is {vae}, which is no .safetensors file; name the VAE's file")
    try:
        channels = vae_latent_channels(vae)
    except ValueError as error:
        raise UsageError(f"--vae is {vae}, which is no Wan VAE: {error}") from error
    if channels != job.channels:
        needed = VAE_FILES.get(job.channels, "the VAE of its model")
        raise UsageError(
            f"{job.latent.name} has {job.channels} channels, {vae.name} decodes {channels}; name {needed} with --vae"
        )
    return vae


def _read_settings(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_plain(name: str) -> bool:
    """A file name, folders before it allowed, that stays below the folder it is looked up in."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return bool(parts) and not {"..", "/"} & set(parts) and ":" not in name and name.endswith(".safetensors")


def _latent_name(job: Job) -> str:
    return job.latent.stem + EXTENSION


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path.expanduser()))


@contextlib.contextmanager
def _work_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder on the disk of the finished files. Raises UsageError where nothing can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".wan-gguf-decode-", dir=folder))
    except OSError as error:
        raise UsageError(f"{folder} cannot be written to ({error.strerror}); name another folder with --out") from error
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _place_all(result: Result, work: Path, folder: Path, stem: str) -> list[dict[str, Any]]:
    """Move each video and its record to their names; returns what --json prints of them."""
    output = result.outputs.get("save_video", {})
    shown, records = output.get("images", []), output.get("wan_gguf", [])
    if not shown or len(shown) != len(records):
        raise CliError(f"ComfyUI made {len(shown)} videos and {len(records)} records; there is nothing to keep")
    with locked(STATE / "output.lock"):
        return [
            _place(work / entry["subfolder"] / entry["filename"], record, folder, stem)
            for entry, record in zip(shown, records, strict=True)
        ]


def _place(made: Path, record: dict[str, Any], folder: Path, stem: str) -> dict[str, Any]:
    number = 1
    while True:
        name = stem if number == 1 else f"{stem}-{number}"
        video, beside = folder / f"{name}{made.suffix}", folder / f"{name}.json"
        if not video.exists() and not beside.exists():
            break
        number += 1
    text = json.dumps({"file": video.name, **record}, ensure_ascii=False, indent=2) + "\n"
    partial = made.with_suffix(".record")
    partial.write_text(text, encoding="utf-8")
    os.replace(made, video)
    os.replace(partial, beside)
    return {"video": str(video), "record": str(beside)} | {
        key: record[key] for key in ("frames_sha256", "video_sha256", "frames", "decoded_as")
    }


def _paths(placed: list[dict[str, Any]]) -> list[str]:
    return [entry[kind] for entry in placed for kind in ("video", "record")]
