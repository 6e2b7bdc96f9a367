"""The CLIP of an encoder file that is built when something first asks for a part of it.

Building one costs seconds, most of them for the tokenizer's quarter of a million tokens. A prompt whose embedding is
stored needs none of it.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.sd

from .file_hash import FileVersion, file_version

_OWN = frozenset({"path", "version", "build", "made_with", "sha256"})
_CLIP_SETTINGS = ("layer_idx", "use_clip_schedule", "tokenizer_options", "apply_hooks_to_conds")
_PATCHER_SETTINGS = (
    "patches_uuid",
    "object_patches",
    "model_options",
    "hook_patches",
    "forced_hooks",
    "injections",
    "wrappers",
    "callbacks",
    "attachments",
    "additional_models",
)


class LazyCLIP(comfy.sd.CLIP):
    """The host's CLIP in every respect; `version` is the state in which the file was chosen."""

    path: Path
    version: FileVersion
    build: Callable[[Path], comfy.sd.CLIP]
    made_with: tuple | None  # settings, model and tokenizer as built; None: not built
    sha256: str | None  # of the file, once someone had to know

    def __init__(self, path: str | Path, build: Callable[[Path], comfy.sd.CLIP]):
        # not the host's __init__, which builds
        self.path, self.version, self.build = Path(path), file_version(path), build
        self.made_with = self.sha256 = None

    def __getattr__(self, name: str) -> Any:
        """Called for what is not there yet: all of it is, from then on."""
        if name.startswith("__") or vars(self).get("made_with", self) is not None:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        built = self.build(self.path)
        for attribute, value in vars(built).items():
            vars(self).setdefault(attribute, value)  # what was set before building stays set
        self.made_with = (copy.deepcopy(_settings(built)), built.patcher.model, built.tokenizer)
        return getattr(self, name)

    def is_dynamic(self) -> bool:
        """Asked by the host's cache when memory is short: what is not built holds nothing that could be freed."""
        return True if self.made_with is None else super().is_dynamic()

    def is_as_loaded(self) -> bool:
        """Whether nothing has been changed on it (LoRA, clip skip, hooks, options); builds nothing."""
        if self.made_with is None:
            return vars(self).keys() <= _OWN
        return (_settings(self), self.patcher.model, self.tokenizer) == self.made_with


def _settings(clip: comfy.sd.CLIP) -> dict[str, Any]:
    """What nodes change on a CLIP. Every patch gives the patcher another patches_uuid."""
    found = {name: getattr(clip, name) for name in _CLIP_SETTINGS}
    return found | {f"patcher.{name}": getattr(clip.patcher, name) for name in _PATCHER_SETTINGS}
