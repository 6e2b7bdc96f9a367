"""`convert --calibrate PROMPTS`: the model that is converted samples the prompts in a local server, and is recorded.

A GGUF is sampled as it is; any other source, and one with LoRAs, is first made a Q8_0 file, in a folder beside the
target that is removed again. The record is kept beside the target, so that --importance can use it for other sizes.
"""

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..convert.importance import Importance, merged_file, read_importance
from ..convert.plan import plan_gguf
from ..convert.run import convert
from ..convert.source import Source
from ..convert.type_costs import matrices
from ..text.prompt_checks import check_prompts
from ..text.prompt_list import Row, load_prompt_list
from .conversion_progress import ConversionProgress
from .demo import run_workflow
from .environment import venv_python
from .errors import UsageError
from .host import find_host
from .paths import MODEL_FILES
from .server import HostServer
from .terminal import Progress, say
from .workflow import class_types, load_workflow

RECORDER = "WanGGUFRecordImportance"
PROBED_STEPS, PROBED_PROMPTS = 4, 4  # the other prompts are sampled without probes
BOUNDARY = 0.875  # of the experts of T2V-A14B
REAL_SIZE = {"width": 480, "height": 256, "frames": 17}
REAL_SAMPLING = {"steps": 10, "cfg": 4.0, "shift": 5.0, "solver": "unipc"}
_REFERENCE_WIDTH = 256
_KEPT_END = ".importance.safetensors"


@dataclass(frozen=True)
class Files:
    """The three files that a run needs."""

    model: Path
    text_encoder: Path
    vae: Path


def kept_file(target: Path) -> Path:
    """Where the record of a calibration is kept."""
    return target.with_name(target.stem + _KEPT_END)


def calibrate(source: Source, options: argparse.Namespace) -> Importance:
    """Record all prompts; the file of the record stays, but not of a dry run. Raises CliError, ValueError, OSError."""
    rows = load_prompt_list(options.calibrate)
    check_prompts(rows, ("prompt",))
    kept = kept_file(options.target)
    if kept.exists() and not options.force:
        raise UsageError(f"{kept}: exists; use it with --importance, or overwrite it with --force")
    with tempfile.TemporaryDirectory(prefix=".wan-gguf-", dir=options.target.parent) as folder:
        files = _files(source, options, Path(folder))
        recorded = list(_record(source, files, rows, Path(folder)))
        importance = read_importance(recorded, matrices(source))
        made = Path(folder) / kept.name
        made.write_bytes(merged_file(importance))
        if not options.dry_run:
            made.replace(kept)
            say(f"{kept}: the record, for other sizes with --importance")
            made = kept
        return read_importance([made], matrices(source))


def _files(source: Source, options: argparse.Namespace, folder: Path) -> Files:
    """The model as a GGUF, and the encoder and VAE that go with it. Raises UsageError."""
    if source.kind != "wan" or source.config["in_dim"] != source.config["out_dim"]:
        raise UsageError("--calibrate is for text-to-video transformers; plan this model without it")
    is_reference = source.config["dim"] == _REFERENCE_WIDTH
    reference = {"text_encoder": "wan_reference_umt5_f16.gguf", "vae": "wan_reference_vae.safetensors"}
    found: dict[str, Path] = {}
    for name, file in reference.items():
        given = getattr(options, name)
        # 16 channels: the VAE is only asked for the latent's shape, which the small one has, too
        if given is None and (is_reference or (name == "vae" and source.config["out_dim"] == 16)):
            given = MODEL_FILES / file
        if given is None:
            raise UsageError(f"--calibrate needs the model's --{name.replace('_', '-')} FILE, as ComfyUI uses it")
        if not given.is_file():
            raise UsageError(f"--{name.replace('_', '-')}: there is no file {given}; check the path")
        found[name] = given.absolute()
    return Files(_as_gguf(source, folder), found["text_encoder"], found["vae"])


def _as_gguf(source: Source, folder: Path) -> Path:
    if source.is_gguf and not source.loras:
        return source.path.absolute()
    target = folder / "model.gguf"
    say(f"making {target}, a Q8_0 file to sample with")
    progress = ConversionProgress()
    try:
        convert(source, plan_gguf(source, "Q8_0"), target, progress=progress.show)
    finally:
        progress.finish()
    return target


def _record(source: Source, files: Files, rows: tuple[Row, ...], folder: Path) -> Iterator[Path]:
    """Sample every prompt; the files that were recorded."""
    probed = f"every layer probed at {PROBED_STEPS} steps of {min(PROBED_PROMPTS, len(rows))}"
    say(f"recording {len(rows)} prompts, {probed}")
    with _server(files) as server:
        for number, row in enumerate(rows):
            progress = Progress()
            progress.stage(f"Prompt {number + 1} of {len(rows)}: {row.prompt[:60]}")
            run_workflow(server, workflow(source, files, row, number), progress, ())
            made = server.base / "output" / "importance_00001_.safetensors"
            yield Path(shutil.move(made, folder / f"{number}.safetensors"))  # often to another file system


@contextmanager
def _server(files: Files) -> Iterator[HostServer]:
    folders = {
        "diffusion_models": [files.model.parent],
        "text_encoders": [files.text_encoder.parent],
        "vae": [files.vae.parent],
    }
    nodes = {*class_types(load_workflow()), RECORDER}
    with HostServer(venv_python(), find_host(venv_python()), nodes, model_folders=folders) as server:
        yield server


def workflow(source: Source, files: Files, row: Row, number: int) -> dict:
    """The bundled workflow up to the sampler, with the recorder before it; it ends in a latent that is thrown away."""
    made = {name: node for name, node in load_workflow().items() if name not in ("save_video", "save_frames")}
    low, high = {"high": (BOUNDARY, 1.0), "low": (0.0, BOUNDARY)}.get(source.expert or "", (0.0, 1.0))
    made["model"]["inputs"]["model_name"] = files.model.name
    made["text_encoder"]["inputs"]["encoder_name"] = files.text_encoder.name
    made["vae"]["inputs"]["vae_name"] = files.vae.name
    made["prompt"]["inputs"] |= {"positive": row.prompt, "cache": False}
    if source.config["dim"] != _REFERENCE_WIDTH:
        made["latent"]["inputs"] |= REAL_SIZE
        made["sampler"]["inputs"] |= REAL_SAMPLING
    made["record"] = {
        "class_type": RECORDER,
        "inputs": {
            "model": ["model", 0],
            "filename_prefix": "importance",
            "probed_steps": PROBED_STEPS if number < PROBED_PROMPTS else 0,
            "sigma_min": low,
            "sigma_max": high,
        },
        "_meta": {"title": "Recording"},
    }
    made["sampler"]["inputs"] |= {"model": ["record", 0], "seed": number if row.seed is None else row.seed}
    made["keep"] = {"class_type": "SaveLatent", "inputs": {"samples": ["sampler", 0], "filename_prefix": "latent"}}
    return made
