"""Finishing a decode, run in the environment: the latent's own settings, a server with its VAE, the files in place."""

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

from .decode_files import place_all, work_folder
from .decode_job import Job, Vae, chosen_vae, read_job
from .demo import run_workflow
from .environment import venv_python
from .paths import MODEL_FILES
from .server import HostServer
from .terminal import Progress
from .video_choices import DEFAULTS, check_settings, with_options
from .workflow import class_types

EXTENSION = ".latent"


def run(options: argparse.Namespace, host_dir: Path) -> int:
    """Make the files, print their paths (or one JSON object) on stdout."""
    job = read_job(_absolute(options.latent))
    given = {name: value for name in DEFAULTS if (value := getattr(options, name)) is not None}
    settings = with_options(job.video, given)
    check_settings(settings)
    vae = chosen_vae(None if options.vae is None else _absolute(options.vae), job, host_dir)
    folder = job.latent.parent if options.out is None else _absolute(options.out)
    progress = Progress()
    progress.stage("Starting ComfyUI")
    workflow = make_workflow(job, vae, settings)
    with work_folder(folder) as work:
        model_folders = {} if vae.folder == MODEL_FILES else {"vae": [vae.folder]}
        with HostServer(
            venv_python(), host_dir, class_types(workflow), model_folders=model_folders, output=work
        ) as server:
            shutil.copy(job.latent, server.base / "input" / _latent_name(job))
            result = run_workflow(server, workflow, progress, ())
        placed = place_all(result, work, folder, job.latent.stem)
    progress.finish()
    print(json.dumps({"videos": placed}, ensure_ascii=False) if options.json else "\n".join(_paths(placed)))
    return 0


def make_workflow(job: Job, vae: Vae, settings: dict[str, Any]) -> dict:
    """Load Latent, Load VAE and Save Video in API form."""
    inputs = {"samples": ["latent", 0], "vae": ["vae", 0], "filename_prefix": "video", "images": False}
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
            "inputs": {**inputs, "keep_latent": True, **settings},
            "_meta": {"title": "Decoding"},
        },
    }


def _latent_name(job: Job) -> str:
    return job.latent.stem + EXTENSION


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path.expanduser()))


def _paths(placed: list[dict[str, Any]]) -> list[str]:
    return [entry[kind] for entry in placed for kind in ("video", "record")]
