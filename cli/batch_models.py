"""Hashes of the model files that workflows name, each file read once in a run."""

from pathlib import Path

from .model_names import model_names
from .output import file_sha256
from .paths import MODEL_FILES


class ModelHashes:
    """workflow -> {name: SHA-256} of those of its model files that lie in these folders or with the reference model."""

    def __init__(self, folders: dict[str, list[Path]]):
        self._folders = folders
        self._known: dict[Path, str] = {}

    def __call__(self, workflow: dict) -> dict[str, str]:
        """Files that are not found are left out: the host may have them elsewhere."""
        found = {}
        for name, kind in model_names(workflow).items():
            for folder in [*self._folders.get(kind, []), MODEL_FILES]:
                file = folder / name
                if file.is_file():
                    found[name] = self._known[file] = self._known.get(file) or file_sha256(file)
                    break
        return found
