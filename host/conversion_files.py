"""The files that 'Wan GGUF Convert' offers, as FOLDER/NAME with the host's own folder keys, and where it writes."""

import os
from pathlib import Path

import folder_paths

from .paths import list_models, model_path

INDEX_END = ".safetensors.index.json"
_OUR_KEYS = {"diffusion_models": "unet_gguf", "text_encoders": "clip_gguf"}  # the host's key -> ours
_ENDINGS = (".gguf", ".safetensors", INDEX_END)


def list_sources() -> list[str]:
    """Every model that may be converted; of one in parts its index, in place of the parts."""
    return [f"{folder}/{name}" for folder in _OUR_KEYS for name in _names(folder)]


def source_path(choice: str) -> Path:
    """The file behind an entry of that list. Raises FileNotFoundError or ValueError."""
    folder, name = _split(choice)
    if not name.lower().endswith(_ENDINGS):
        raise ValueError(f"'{name}' is not a {', '.join(_ENDINGS)} file; choose one from the list")
    if name.lower().endswith(".gguf"):
        return model_path(_OUR_KEYS[folder], name)
    found = folder_paths.get_full_path(folder, name)
    if found is None:
        raise FileNotFoundError(
            f"there is no file '{name}' in models/{folder} or its extra folders; put it there and refresh the list "
            "with R"
        )
    return Path(found)


def target_folder(choice: str) -> Path:
    """A folder of the same kind that can be written to: the source's own, else the first. Raises ValueError.

    The host still has models/unet before models/diffusion_models, so one that is called like its key comes first.
    """
    folder, _ = _split(choice)
    source = source_path(choice)
    places = [Path(place) for place in folder_paths.get_folder_paths(folder)]
    places.sort(key=lambda place: (not source.is_relative_to(place), place.name != folder))
    for place in places:
        if place.is_dir() and os.access(place, os.W_OK):
            return place
    shown = ", ".join(str(place) for place in places) or "none"
    raise ValueError(f"no folder for {folder} can be written to ({shown}); make one of them writable")


def refresh_lists() -> None:
    """Let the host read its model folders again: its file lists are kept for as long as a folder's time stays."""
    for folder, key in _OUR_KEYS.items():
        for name in (folder, key):
            folder_paths.filename_list_cache.pop(name, None)


def _split(choice: str) -> tuple[str, str]:
    folder, _, name = choice.partition("/")
    if folder not in _OUR_KEYS:
        raise ValueError(f"'{choice}' is in none of {', '.join(_OUR_KEYS)}; choose one from the list")
    return folder, name


def _names(folder: str) -> list[str]:
    names = {*list_models(_OUR_KEYS[folder]), *folder_paths.get_filename_list(folder)}
    indices = set(_indices(folder))
    parts = {index.removesuffix(INDEX_END) for index in indices}
    return sorted(indices | {name for name in names if name.lower().endswith(_ENDINGS) and not _is_part(name, parts)})


def _is_part(name: str, models: set[str]) -> bool:
    """Whether the file is MODEL-00001-of-00003.safetensors of one of the models."""
    model, _, count = name.removesuffix(".safetensors").rpartition("-of-")
    return count.isdecimal() and model.rpartition("-")[0] in models


def _indices(folder: str) -> list[str]:
    """Indices of models in parts, which the host's own list leaves out for their ending."""
    found: list[str] = []
    for place in folder_paths.get_folder_paths(folder):
        names, _ = folder_paths.recursive_search(place, excluded_dir_names=[".git"])
        found += [name for name in names if name.endswith(INDEX_END)]
    return found
