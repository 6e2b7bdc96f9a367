"""Model folders: the host's own, seen for GGUF files, and the reference model that comes with the pack.

`unet_gguf` and `clip_gguf` share the host's list objects of `diffusion_models` and `text_encoders`, so folders from
extra_model_paths.yaml count as well; ComfyUI-GGUF uses the same two keys. The pack's own folder is not put into these
lists, or the host would offer its files in other loaders; `list_models` and `model_path` add it. For `vae` it is a
folder like any other, because the host's Load VAE reads it.
"""

from pathlib import Path

import folder_paths

REFERENCE_FOLDER = Path(__file__).resolve().parent.parent / "reference_model" / "files"

# our key -> (the host's key whose folders it shares, extensions, the reference model's files)
_KEYS = {
    "unet_gguf": ("diffusion_models", (".gguf",), "wan_reference_dit*.gguf"),
    "clip_gguf": ("text_encoders", (".gguf", ".safetensors"), "wan_reference_umt5*.gguf"),
}


def register_folders() -> None:
    """Tell the host about our folders; calling it again changes nothing."""
    for key, (host_key, extensions, _) in _KEYS.items():
        folders = folder_paths.folder_names_and_paths[host_key][0]
        known = folder_paths.folder_names_and_paths.get(key, ((), ()))[1]
        folder_paths.folder_names_and_paths[key] = (folders, {*known, *extensions})
        folder_paths.filename_list_cache.pop(key, None)
    if REFERENCE_FOLDER.is_dir() and str(REFERENCE_FOLDER) not in folder_paths.get_folder_paths("vae"):
        folder_paths.add_model_folder_path("vae", str(REFERENCE_FOLDER))


def list_models(key: str) -> list[str]:
    """File names for a loader's list, relative to their folders; the reference model comes last."""
    host_key, extensions, _ = _KEYS[key]
    # both keys: another pack may register ours with fewer extensions
    found = {*folder_paths.get_filename_list(key), *folder_paths.get_filename_list(host_key)}
    names = sorted(name for name in found if name.lower().endswith(extensions))
    return names + [name for name in _reference_names(key) if name not in names]


def model_path(key: str, name: str) -> Path:
    """The file of that name. Raises FileNotFoundError (nowhere to be found) or ValueError (not a model's extension)."""
    host_key, extensions, _ = _KEYS[key]
    if not name.lower().endswith(extensions):
        raise ValueError(f"'{name}' is not a {' or '.join(extensions)} file; choose one from the list")
    found = folder_paths.get_full_path(key, name)
    if found is not None:
        return Path(found)
    if name in _reference_names(key):
        return REFERENCE_FOLDER / name
    raise FileNotFoundError(
        f"there is no file '{name}' in models/{host_key} or its extra folders; put it there and refresh the list with R"
    )


def vae_path(name: str) -> Path | None:
    """The file in models/vae that the host's Load VAE reads for that name; None for its built-in names."""
    found = folder_paths.get_full_path("vae", name)
    return None if found is None else Path(found)


def reference_vae(model: Path) -> str | None:
    """The name of the reference model's VAE if that file is the reference model, else None."""
    if model.parent != REFERENCE_FOLDER:
        return None
    return next((path.name for path in sorted(REFERENCE_FOLDER.glob("wan_reference_vae*.safetensors"))), None)


def _reference_names(key: str) -> list[str]:
    return sorted(path.name for path in REFERENCE_FOLDER.glob(_KEYS[key][2]))
