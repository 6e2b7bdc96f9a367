"""Folders of its own for a test, in place of the host's."""

from pathlib import Path

import folder_paths
import pytest


def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> Path:
    """Make the host's folders of these names ("output", "input", "user") lie in `tmp_path`; returns the output's."""
    for name in names:
        (tmp_path / name).mkdir()
        monkeypatch.setattr(folder_paths, f"{name}_directory", str(tmp_path / name))
    return tmp_path / "output"
