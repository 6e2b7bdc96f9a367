"""Which host is taken, and what is said about a folder that is none."""

from pathlib import Path

import pytest

from wan_gguf.cli import host
from wan_gguf.cli.errors import CliError


def make_host(folder: Path, version: str = "0.30.0") -> Path:
    """A folder that looks like ComfyUI."""
    (folder / "comfy").mkdir(parents=True)
    for name in ("main.py", "nodes.py", "requirements.txt"):
        (folder / name).write_text("")
    (folder / "comfyui_version.py").write_text(f'# made by a tool\n__version__ = "{version}"\n')
    return folder


@pytest.fixture(autouse=True)
def nothing_else(monkeypatch, tmp_path):
    """No host is named, none is cached, none may be fetched."""
    monkeypatch.delenv("COMFYUI_DIR", raising=False)
    monkeypatch.setattr(host, "cached_host", lambda: None)
    monkeypatch.setattr(host, "fetch_host", lambda _python: Path("fetched"))
    monkeypatch.setattr(host, "ROOT", tmp_path / "elsewhere" / "pack")


def test_comfyui_dir_wins_over_the_folder_around(monkeypatch, tmp_path):
    around = make_host(tmp_path / "around")
    monkeypatch.setattr(host, "ROOT", around / "custom_nodes" / "包 pack")
    assert host.find_host(Path("python")) == around
    named = make_host(tmp_path / "我的 ComfyUI")
    monkeypatch.setenv("COMFYUI_DIR", str(named))
    assert host.find_host(Path("python")) == named


def test_without_any_the_cached_one_then_a_fetched_one(monkeypatch):
    assert host.known_host() is None
    assert host.find_host(Path("python")) == Path("fetched")
    monkeypatch.setattr(host, "cached_host", lambda: Path("cached"))
    assert host.known_host() == host.find_host(Path("python")) == Path("cached")


def test_a_custom_nodes_folder_that_is_not_in_a_host_does_not_count(monkeypatch, tmp_path):
    monkeypatch.setattr(host, "ROOT", tmp_path / "custom_nodes" / "pack")
    assert host.named_host() is None


def test_a_wrong_comfyui_dir_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("COMFYUI_DIR", str(tmp_path))
    with pytest.raises(
        CliError, match=r"no ComfyUI folder \(it has no main.py, no nodes.py, no requirements.txt, no comfy\)"
    ):
        host.named_host()


@pytest.mark.parametrize(
    ("version", "accepted"), [("0.29.9", False), ("0.30.0", True), ("0.31", True), ("1.0.0", True)]
)
def test_an_old_host_is_refused(monkeypatch, tmp_path, version, accepted):
    monkeypatch.setenv("COMFYUI_DIR", str(make_host(tmp_path / "host", version)))
    if accepted:
        assert host.named_host() == tmp_path / "host"
    else:
        with pytest.raises(CliError, match=r"is version 0\.29\.9; 0\.30\.0 or newer is needed"):
            host.named_host()


def test_a_host_without_a_version_is_taken(monkeypatch, tmp_path):
    folder = make_host(tmp_path / "host")
    (folder / "comfyui_version.py").unlink()
    monkeypatch.setenv("COMFYUI_DIR", str(folder))
    assert host.named_host() == folder
    assert host.host_version(folder) == "unknown"
