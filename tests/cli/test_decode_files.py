"""The hidden folder of a decode: it goes with the run, and one that a killed run left goes a day later."""

import os

import pytest

from wan_gguf.cli.client import Result
from wan_gguf.cli.decode_files import LEFTOVER_AGE_S, place_all, work_folder
from wan_gguf.cli.errors import CliError


def made(folder, name, age_s):
    """A work folder with half a video, of which nothing has changed for that long."""
    half = folder / name / "video_00001_.part"
    half.parent.mkdir()
    half.touch()
    for path in (half, half.parent):
        os.utime(path, (path.stat().st_mtime - age_s,) * 2)
    return half


def test_the_folder_goes_with_the_run(tmp_path):
    with pytest.raises(KeyError), work_folder(tmp_path / "out") as work:
        (work / "half").touch()
        assert work.parent == tmp_path / "out"
        raise KeyError
    assert list((tmp_path / "out").iterdir()) == []


def test_what_a_killed_decode_left_is_removed_after_a_day(tmp_path):
    old, day = "old", LEFTOVER_AGE_S + 60
    made(tmp_path, f".wan-gguf-decode-{old}", day)
    made(tmp_path, ".wan-gguf-decode-young", 60)
    in_use = made(tmp_path, ".wan-gguf-decode-used", day)
    os.utime(in_use)
    made(tmp_path, ".another", day)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / ".wan-gguf-decode-link").symlink_to(elsewhere)
    with work_folder(tmp_path):
        pass
    left = sorted(path.name for path in tmp_path.iterdir())
    hidden = [".wan-gguf-decode-link", ".wan-gguf-decode-used", ".wan-gguf-decode-young"]
    assert left == [".another", *hidden, "elsewhere"]


def test_a_run_without_videos_is_an_error(tmp_path):
    with pytest.raises(CliError, match="ComfyUI made 0 videos and 0 records"):
        place_all(Result({}, {}, {}), tmp_path, tmp_path, "a")
