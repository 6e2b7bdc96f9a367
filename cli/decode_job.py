"""The job that a latent file remembers, and the VAE it needs, looked for on this machine."""

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..loaders.describe import vae_latent_channels
from ..loaders.safetensors_header import read_header
from .errors import UsageError
from .paths import MODEL_FILES
from .video_choices import DEFAULTS

VAE_FILES = {16: "wan_2.1_vae.safetensors", 48: "wan2.2_vae.safetensors"}  # latent channels -> the published name
_KINDS = {"codec": str, "crf": int, "pixel_format": str, "fps": (int, float), "tiling": str}


@dataclass(frozen=True)
class Job:
    """A latent file and what it remembers of the run that made it."""

    latent: Path
    channels: int
    video: dict[str, Any]
    vae_name: str | None


@dataclass(frozen=True)
class Vae:
    """A file as the host names it: `name`, with folders before it or not, below a model folder."""

    folder: Path
    name: str

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / self.name


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


def chosen_vae(named: Path | None, job: Job, host_dir: Path) -> Vae:
    """The VAE that is named, else the job's, once it is known to fit. Raises UsageError."""
    vae = find_vae(job, host_dir) if named is None else _as_the_job_names_it(named, job)
    if not vae.path.is_file() or vae.path.suffix != ".safetensors":
        raise UsageError(f"--vae is {vae.path}, which is no .safetensors file; name the VAE's file")
    try:
        channels = vae_latent_channels(vae.path)
    except ValueError as error:
        raise UsageError(f"--vae is {vae.path}, which is no Wan VAE: {error}") from error
    if channels != job.channels:
        needed = VAE_FILES.get(job.channels, "the VAE of its model")
        raise UsageError(
            f"{job.latent.name} has {job.channels} channels, {vae.name} decodes {channels}; name {needed} with --vae"
        )
    return vae


def find_vae(job: Job, host_dir: Path) -> Vae:
    """The VAE that the job was made with, if it is here. Raises UsageError that names the file."""
    if job.vae_name is None:
        published = VAE_FILES.get(job.channels, "the VAE of its model")
        raise UsageError(
            f"{job.latent.name} does not say which VAE it needs; it has {job.channels} channels, so name {published} "
            "with --vae FILE"
        )
    folders, parts = (MODEL_FILES, host_dir / "models" / "vae"), _parts(job.vae_name)
    for folder in folders:
        if parts and folder.joinpath(*parts).is_file():
            return Vae(folder, str(Path(*parts)))
    raise UsageError(
        f"{job.latent.name} was made with the VAE {job.vae_name}, which is no .safetensors file in {folders[0]} or "
        f"{folders[1]}, where alone it is looked for; name it with --vae FILE"
    )


def _as_the_job_names_it(path: Path, job: Job) -> Vae:
    """The name goes into the video: a file that lies in the folders of the job's name is given the whole of it."""
    parts = _parts(job.vae_name or "")
    if parts and path.parts[1:][-len(parts) :] == parts:
        return Vae(path.parents[len(parts) - 1], str(Path(*parts)))
    return Vae(path.parent, path.name)


def _parts(name: str) -> tuple[str, ...]:
    """Folders and file of a name that stays below the folder it is looked up in; nothing for any other."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    is_plain = not {"..", "/"} & set(parts) and ":" not in name and name.endswith(".safetensors")
    return parts if is_plain else ()


def _read_settings(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
