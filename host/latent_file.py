"""A sampled latent on disk: hours of work that a failed decode must not cost.

The file is the host's own kind, `<name>.latent`: safetensors with `latent_tensor` and the empty mark
`latent_format_version_0`, so the host's Load Latent reads it, too. Its metadata holds, each as JSON, what Save Latent
puts there (prompt, workflow) and `wan_gguf`:

    {"sampling": settings of the run, "video": settings of the file to write, "vae_name": file or null}

It is complete under its name or not there at all, and on the disk before the decode begins.
"""

import contextlib
import errno
import hashlib
import json
import logging
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
import safetensors.torch
import torch
from comfy.cli_args import args

from ..loaders.safetensors_header import SafetensorsEntry, field_error, read_header, read_tensor_bytes
from .video_place import numbered, write_whole

EXTENSION = ".latent"
ORIGIN = "wan_gguf_file"  # key of a LATENT: the LatentFile it was read from
FINISH = "finish with 'Wan GGUF Load Latent' and 'Wan GGUF Save Video', or with: python3 cli decode"
SETTINGS = "wan_gguf"  # name of our metadata, and key of a LATENT with the settings of its run
VALUES, MARK = "latent_tensor", "latent_format_version_0"
MAX_DEPTH = 8  # folders below output and input that are looked into
MAX_LISTED = 2000
PLAIN_NAME = "video"  # in place of one that cannot be
_NAME_ERRORS = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}  # the last is what Windows says
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_LOCATIONS = {"output": folder_paths.get_output_directory, "input": folder_paths.get_input_directory}
_ANNOTATED = re.compile(r"(.*\.latent) \[(output|input)\]", re.DOTALL)


@dataclass(frozen=True)
class LatentFile:
    """Where a latent lies, what it holds, and its metadata, each value read as JSON."""

    path: Path
    sha256: str
    tags: dict[str, Any]


@dataclass(frozen=True)
class KeptLatent:
    """Where a latent was put, and under which number; `refusal`: why it is not in the wanted folder, if it is not."""

    path: Path
    number: int
    refusal: OSError | ValueError | None


def storable(samples: torch.Tensor) -> torch.Tensor:
    """The samples as a file can hold them: as they are, or else as float32, which is all that a decode takes of them.

    Raises ValueError where a value is NaN or infinite, also when it is too large for float32.
    """
    kept = _in_known_dtype(samples)
    if kept.numel() and not torch.isfinite(torch.stack(kept.aminmax())).all():
        raise ValueError(
            "samples: the latent has NaN or infinite values, of which no video can be made; nothing was written; "
            "sample it again, with another sampler, a lower CFG or a model in another precision"
        )
    if not torch.equal(kept.to(samples.dtype), samples.detach()):
        logging.warning("Wan GGUF: the latent is %s; it is saved and decoded as float32, rounded", samples.dtype)
    return kept


def samples_sha256(samples: torch.Tensor) -> str:
    """SHA-256 of shape, dtype and values."""
    values = samples.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{tuple(values.shape)} {values.dtype}".encode())
    digest.update(values.view(torch.uint8).numpy().data if values.ndim else b"")
    return digest.hexdigest()


def origin_of(latent: dict) -> LatentFile | None:
    """The file that the latent was read from, if it is still there and nothing has changed the values since."""
    origin = latent.get(ORIGIN)
    if not isinstance(origin, LatentFile) or not origin.path.is_file():
        return None
    return origin if origin.sha256 == samples_sha256(latent["samples"]) else None


def save_latent(path: Path, samples: torch.Tensor, tags: dict[str, Any]) -> None:
    """Write the file whole and flush it to the disk. Raises FileExistsError if there is one, OSError."""
    tensors = {VALUES: _in_known_dtype(samples).cpu().contiguous(), MARK: torch.tensor([])}
    write_whole(path, safetensors.torch.save(tensors, {name: json.dumps(value) for name, value in tags.items()}))


def keep_latent(folder: Path, name: str, number: int, samples: torch.Tensor, tags: dict[str, Any]) -> KeptLatent:
    """Save as name_00001_.latent with the first free number, in `folder` or else in the host's input or user folder.

    There under a plain name if it is the name that cannot be. The host's --disable-metadata leaves the tags out. Raises
    what `folder` raised, OSError or ValueError, if all of them refuse.
    """
    refusal: OSError | ValueError | None = None
    for place in (folder, Path(folder_paths.get_input_directory()), Path(folder_paths.get_user_directory())):
        try:
            place.mkdir(parents=True, exist_ok=True)
            path, taken = _save_numbered(place, name, number, samples, {} if args.disable_metadata else tags)
        except (OSError, ValueError) as error:
            refusal = refusal or error
            if is_name_fault(error):
                name = PLAIN_NAME
        else:
            return KeptLatent(path, taken, refusal)
    raise refusal or AssertionError("there are three folders")


def is_name_fault(error: Exception) -> bool:
    """Whether it is the name itself that no file can have: too long, not Unicode, with characters of the system's."""
    return isinstance(error, ValueError) or getattr(error, "errno", None) in _NAME_ERRORS


def load_latent(path: Path) -> dict:
    """The file as LATENT: samples float32 as the host's Load Latent gives them, its settings, and where it is from.

    Raises ValueError (SafetensorsError) for a file that is not a video latent, OSError.
    """
    entries, metadata = _checked_header(path)
    samples = _read(path, entries[VALUES])
    tags = {name: _parse(value) for name, value in metadata.items() if isinstance(value, str)}
    latent = {"samples": samples, ORIGIN: LatentFile(path, samples_sha256(samples), tags)}
    own = tags.get(SETTINGS)
    if isinstance(own, dict) and isinstance(own.get("sampling"), dict):
        latent[SETTINGS] = own["sampling"]
    return latent


def check_latent_file(path: Path) -> None:
    """Raise ValueError, from the header only, unless the file is a video latent; OSError."""
    _checked_header(path)


def list_latents() -> list[str]:
    """`sub/name.latent [output]` for every latent of the host's output and input folders, the newest first."""
    found = []
    for location, folder in _LOCATIONS.items():
        for path, changed in _walk(folder(), MAX_DEPTH):
            name = os.path.relpath(path, folder()).replace(os.sep, "/")
            found.append((-changed, f"{name} [{location}]"))
    return [name for _, name in sorted(found)[:MAX_LISTED]]


def latent_path(name: str) -> Path:
    """The file of such a name. Raises ValueError for one that leaves the folders, FileNotFoundError."""
    match = _ANNOTATED.fullmatch(name)
    if match is None:
        raise ValueError(f"latent_name: '{name}' is not a latent of the list; refresh the list with R")
    folder = _LOCATIONS[match[2]]()
    path = os.path.abspath(os.path.join(folder, match[1]))
    if not folder_paths.is_within_directory(folder, path):
        raise ValueError(f"latent_name: '{name}' lies outside the host's {match[2]} folder; choose one from the list")
    if not os.path.isfile(path):
        raise FileNotFoundError(f"latent_name: there is no file '{match[1]}' in {folder}; refresh the list with R")
    return Path(path)


def _in_known_dtype(samples: torch.Tensor) -> torch.Tensor:
    known = samples.detach()
    return known if known.dtype in _DTYPES.values() else known.float()


def _save_numbered(folder: Path, name: str, number: int, samples: torch.Tensor, tags: dict) -> tuple[Path, int]:
    while True:
        path = numbered(folder, name, number, EXTENSION[1:])
        with contextlib.suppress(FileExistsError):
            if not path.exists():  # save_latent would find out after writing all of it
                save_latent(path, samples, tags)
                return path, number
        number += 1


def _checked_header(path: Path) -> tuple[dict[str, SafetensorsEntry], dict[str, str]]:
    entries, metadata = read_header(path)
    if VALUES not in entries or MARK not in entries:
        raise field_error(path, "header", f"has no {VALUES} or no {MARK}", "choose a file of this node or Save Latent")
    _check_entry(path, entries[VALUES])
    return entries, metadata


def _read(path: Path, entry: SafetensorsEntry) -> torch.Tensor:
    data = bytearray(read_tensor_bytes(path, entry))
    samples = torch.frombuffer(data, dtype=_DTYPES[entry.dtype]).reshape(entry.shape).float()
    if not torch.isfinite(samples).all():
        raise field_error(path, VALUES, "has NaN or infinite values", "sample it again")
    return samples


def _check_entry(path: Path, entry: SafetensorsEntry) -> None:
    if entry.dtype not in _DTYPES:
        raise field_error(path, VALUES, f"dtype {entry.dtype}; F32, F16 and BF16 are allowed", "sample it again")
    if len(entry.shape) != 5 or not math.prod(entry.shape):
        wanted = "a video latent has (batch, channels, frames, height, width)"
        raise field_error(path, VALUES, f"shape {entry.shape}; {wanted}", "use the host's Load Latent for images")


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _walk(folder: str, depth: int) -> list[tuple[str, float]]:
    """(path, time of change) of the latents below a folder; links to folders and hidden ones are not followed."""
    found: list[tuple[str, float]] = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.name.startswith("."):
                    continue
                if entry.name.endswith(EXTENSION) and entry.is_file():
                    found.append((entry.path, entry.stat().st_mtime))
                elif depth and entry.is_dir(follow_symlinks=False):
                    found += _walk(entry.path, depth - 1)
    return found
