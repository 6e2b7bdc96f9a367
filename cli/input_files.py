"""Which files of ComfyUI's folders a workflow reads: start images, videos, sounds, latents, prompt lists.

In /object_info the host marks an input that names such a file: `image_upload` and the like. The value is a path below
the input folder; an ending [input], [output] or [temp] says which folder is meant. Source: the host's
folder_paths.annotated_filepath.

A job's folder keeps them beside the record as `inputs/<number>-<name>`, counted in the workflow's order: two files that
are called alike never meet, and no name is one that Windows reserves.
"""

import os
import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from types import MappingProxyType

FOLDER = "inputs"
KINDS = ("input", "output", "temp")
MAX_NAME_BYTES = 120
NO_FILE = "none"  # what a list of files offers for none
UPLOADS = ("image_upload", "video_upload", "audio_upload", "file_upload")
# class -> its input: known without asking a server, and the last three are not marked
READERS = MappingProxyType(
    {
        "LoadImage": "image",
        "LoadImageMask": "image",
        "LoadImageOutput": "image",
        "LoadVideo": "file",
        "LoadAudio": "audio",
        "LoadLatent": "latent",
        "WanGGUFLoadLatent": "latent_name",
        "WanGGUFPromptList": "list_name",
    }
)
_IMAGE_ENDS = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])( *\..*)?", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Place:
    """Where a file lies: `path` below the host's folder of that kind, as the workflow writes it."""

    kind: str
    path: str

    @property
    def parts(self) -> tuple[str, ...]:
        """Subfolders and file name; servers on Windows take both strokes."""
        return PurePosixPath(self.path.replace("\\", "/")).parts


def marked_inputs(info: object) -> set[str]:
    """The inputs of a node class, as /object_info describes it, that name an uploaded file."""
    kinds = _object(_object(info).get("input"))
    described = {**_object(kinds.get("required")), **_object(kinds.get("optional"))}
    return {name for name, about in described.items() if any(_options(about).get(mark) for mark in UPLOADS)}


def _object(value: object) -> dict:
    return value if isinstance(value, dict) else {}


def _options(about: object) -> dict:
    return _object(about[1]) if isinstance(about, list) and len(about) > 1 else {}


def named_files(workflow: dict, marked: Mapping[str, Collection[str]] = MappingProxyType({})) -> list[str]:
    """The values that name files, each once, in order; `marked`: class -> marked_inputs, where a server was asked."""
    names: dict[str, None] = {}
    for node in workflow.values():
        wanted = {READERS.get(node["class_type"]), *marked.get(node["class_type"], ())}
        for key, value in node["inputs"].items():
            if key in wanted and isinstance(value, str) and value.strip() not in ("", NO_FILE):
                names[value] = None
    return list(names)


def place_of(name: str) -> Place | None:
    """Where the file of a value lies; None for one that leads out of the folder or that no file can have."""
    kind = next((kind for kind in KINDS if name.endswith(f"[{kind}]")), None)
    place = Place(kind or "input", name if kind is None else name[: -len(f" [{kind}]")])
    is_text = all(unicodedata.category(character) not in ("Cc", "Cs") for character in place.path)
    return place if is_text and place.parts and stays_inside(place.path) else None


def stays_inside(path: str) -> bool:
    """Whether folder / path is below the folder, on every system."""
    kinds = (PurePosixPath(path), PureWindowsPath(path))
    return bool(path) and not any(one.anchor or ".." in one.parts for one in kinds)


def is_reserved(place: Place) -> bool:
    """Whether Windows takes a part of the path for a device."""
    return any(_RESERVED.fullmatch(part.rstrip(" ")) for part in place.parts)


def kept_path(number: int, place: Place) -> str:
    """The path beside the record of the file that the workflow names as number `number`."""
    stem, end = os.path.splitext(place.parts[-1])
    clean = "".join(letter if letter.isprintable() and letter not in '/\\:*?"<>|' else "-" for letter in stem)
    short = clean.encode()[:MAX_NAME_BYTES].decode(errors="ignore").strip(" .")
    return f"{FOLDER}/{number}-{short or 'file'}{re.sub('[^0-9A-Za-z.]', '', end)[:20]}"


def described(name: str) -> str:
    """What a message calls the file of a value."""
    place = place_of(name)
    is_image = place is not None and place.path.lower().endswith(_IMAGE_ENDS)
    return f"{'start image' if is_image else 'input file'} {name!r}"
