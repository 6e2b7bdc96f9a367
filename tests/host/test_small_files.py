"""A bounded folder of small files: what is used longest ago goes first, leftovers go, nothing raises."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from wan_gguf.host import small_files
from wan_gguf.host.small_files import SmallFiles


@pytest.fixture
def files(tmp_path) -> SmallFiles:
    """Room for three files of 10 bytes."""
    return SmallFiles(tmp_path / "a" / "b", ".x", 30)


def names(files: SmallFiles) -> list[str]:
    return sorted(path.name for path in files.folder.iterdir())


def age(files: SmallFiles, name: str, seconds: int) -> None:
    """The file was last used at that time."""
    os.utime(files.folder / name, (seconds, seconds))


def test_what_was_written_is_read(files):
    assert files.read("one") is None
    assert files.write("one", b"1" * 10) is None
    assert files.write("one", b"2" * 10) is None
    assert files.read("one") == b"2" * 10
    assert names(files) == ["one.x"]


def test_the_least_recently_used_go_first(files):
    for number, name in enumerate("abc"):
        files.write(name, b"." * 10)
        age(files, f"{name}.x", 1000 + number)
    files.read("a")
    files.write("d", b"." * 10)
    assert names(files) == ["a.x", "c.x", "d.x"]
    age(files, "a.x", 1000)
    age(files, "c.x", 1001)
    files.write("e", b"." * 15)
    assert names(files) == ["d.x", "e.x"]


def test_other_peoples_files_are_not_removed(files):
    files.write("a", b"." * 10)
    (files.folder / "notes.txt").write_bytes(b"." * 100)
    files.write("b", b"." * 20)
    assert names(files) == ["a.x", "b.x", "notes.txt"]


def test_more_than_the_limit_is_not_written(files):
    assert files.write("a", b"." * 31) == "its 31 bytes are more than the limit of 30"
    assert not files.folder.exists()


def test_leftovers_are_removed_and_running_writers_are_not_disturbed(files):
    files.write("a", b".")
    for name in ("old.tmp", "new.tmp"):
        (files.folder / name).write_bytes(b".")
    age(files, "old.tmp", 1000)
    files.write("b", b".")
    assert names(files) == ["a.x", "b.x", "new.tmp"]


def test_a_failed_write_leaves_nothing_behind(files, monkeypatch, caplog):
    files.write("a", b".")

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(small_files.os, "replace", full)
    assert files.write("b", b".") == "No space left on device"
    assert files.write("c", b".") == "No space left on device"
    assert names(files) == ["a.x"]
    assert len([message for message in caplog.messages if "No space left on device" in message]) == 1


def test_a_folder_in_the_place_of_a_file_is_no_error(files):
    (files.folder / "a.x" / "inside").mkdir(parents=True)
    assert files.read("a") is None
    assert files.write("a", b".")
    assert names(files) == ["a.x"]


def test_a_file_too_large_to_be_ours_is_not_read(files, monkeypatch):
    files.write("a", b"." * 10)
    monkeypatch.setattr(small_files, "MAX_FILE_BYTES", 9)
    assert files.read("a") is None


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pipes in folders on Windows")
def test_a_pipe_does_not_block(files):
    files.folder.mkdir(parents=True)
    os.mkfifo(files.folder / "a.x")
    assert files.read("a") is None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows refuses to replace a file that is being read")
def test_readers_never_see_half_a_file(files):
    contents = [bytes([number]) * 5 for number in range(1, 5)]

    def write(number: int) -> set:
        return {files.write("a", contents[number % 4])}

    def read(_number: int) -> set:
        return {files.read("a")}

    with ThreadPoolExecutor(4) as pool:
        seen = set().union(*pool.map(lambda n: (write if n % 2 else read)(n // 2), range(400)))
    assert seen <= {None, *contents}
