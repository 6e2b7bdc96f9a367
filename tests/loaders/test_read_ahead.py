"""Reading ahead: all of a file, in the background, stopped early, and quiet about a file that is gone."""

import threading

import pytest

from wan_gguf.loaders import read_ahead as module
from wan_gguf.loaders.read_ahead import ReadAhead


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", 1000)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("size", [0, 1, 999, 1000, 12_345])
def test_every_byte_is_read_once(tmp_path, size):
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(size))
    reading = ReadAhead(path)
    reading.start()
    reading.start()
    reading.wait()
    assert reading.bytes_read == size


class Endless:
    """A path whose file never ends and counts its reads."""

    name = "endless.gguf"

    def __init__(self):
        self.reads = 0
        self.began = threading.Event()

    def open(self, mode, buffering):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False

    def readinto(self, buffer):
        self.reads += 1
        self.began.set()
        return len(buffer)


@pytest.mark.usefixtures("small_chunks")
def test_stop_ends_it_early_and_nothing_is_read_afterwards():
    path = Endless()
    reading = ReadAhead(path)
    reading.start()
    assert path.began.wait(timeout=60)
    reading.stop()
    read = path.reads
    assert reading.bytes_read == 1000 * read
    reading.start()
    reading.wait()
    assert path.reads == read


def test_stop_without_start_does_nothing(tmp_path):
    reading = ReadAhead(tmp_path / "missing.gguf")
    reading.stop()
    assert reading.bytes_read == 0


def test_a_file_that_is_gone_is_noted_not_raised(tmp_path, caplog):
    caplog.set_level("INFO")
    reading = ReadAhead(tmp_path / "missing.gguf")
    reading.start()
    reading.wait()
    assert "missing.gguf was not read ahead" in caplog.text
