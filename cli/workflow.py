"""The bundled text-to-video workflow in API form: the one place of the demo's defaults and its model files' names."""

import json
from pathlib import Path

from .errors import CliError
from .paths import CLI, MODEL_FILES

BUNDLED = CLI / "workflows" / "text_to_video.api.json"
MODEL_INPUTS = (("model", "model_name"), ("text_encoder", "encoder_name"), ("vae", "vae_name"))
# option -> the node and input it sets
SETTINGS = {
    "prompt": ("prompt", "positive"),
    "negative": ("prompt", "negative"),
    "default_negative": ("prompt", "default_negative"),
    "seed": ("sampler", "seed"),
    "steps": ("sampler", "steps"),
    "cfg": ("sampler", "cfg"),
    "shift": ("sampler", "shift"),
    "solver": ("sampler", "solver"),
    "cfg_mode": ("sampler", "cfg_mode"),
    "width": ("latent", "width"),
    "height": ("latent", "height"),
    "frames": ("latent", "frames"),
    "dtype": ("model", "dtype"),
    "mode": ("model", "mode"),
    "fps": ("save_video", "fps"),
}


def load_workflow(path: Path = BUNDLED) -> dict:
    """The workflow as the host's API takes it: node id -> {"class_type", "inputs", "_meta"}."""
    return json.loads(path.read_text(encoding="utf-8"))


def settings_of(workflow: dict) -> dict:
    """Every setting's value: the defaults, if the workflow is the bundled one."""
    return {name: workflow[node]["inputs"][key] for name, (node, key) in SETTINGS.items()}


def with_settings(workflow: dict, settings: dict) -> dict:
    """A copy of the workflow in which the given settings are changed."""
    changed = json.loads(json.dumps(workflow))
    for name, value in settings.items():
        node, key = SETTINGS[name]
        changed[node]["inputs"][key] = value
    return changed


def class_types(workflow: dict) -> set[str]:
    """The ids of the nodes the host has to know."""
    return {node["class_type"] for node in workflow.values()}


def titles(workflow: dict) -> dict[str, str]:
    """Node id -> what that stage is called in the terminal."""
    return {name: node.get("_meta", {}).get("title", name) for name, node in workflow.items()}


def model_files(workflow: dict, folder: Path = MODEL_FILES) -> list[Path]:
    """The reference model's files the workflow uses. Raises CliError if one is missing."""
    files = [folder / workflow[node]["inputs"][key] for node, key in MODEL_INPUTS]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise CliError(
            f"the reference model is incomplete: {', '.join(missing)} not in {folder}; "
            "get them back with: git checkout -- reference_model/files"
        )
    return files
