"""The demo's files: names any file system takes, a readable contact sheet, all or nothing."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from wan_gguf.cli import output
from wan_gguf.cli.output import contact_sheet, decode_frames, frames_sha256, png_bytes, slug, write_results

RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("A red circle moves left!", "a-red-circle-moves-left"),
        ("红色圆形，向左移动。", "红色圆形-向左移动"),
        ('../../etc\\passwd: <a> "b" | c? *', "etc-passwd-a-b-c"),
        ("cafe\u0301_x\n\ty", "café-x-y"),
        ("…！", "video"),
        ("🔴", "video"),
    ],
)
def test_slug_keeps_letters_of_every_script_only(prompt, expected):
    assert slug(prompt) == expected


@pytest.mark.parametrize("letter", ["a", "红", "𠀀"])
def test_long_prompts_make_names_below_every_limit(letter):
    assert slug(letter * 999) == letter * 40
    assert len(f".{slug(letter * 999)}_seed{2**64 - 1}-99.json.part".encode()) <= 255


def test_frames_hash_is_of_the_raw_pixels_in_order():
    values = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)
    frames = decode_frames([png_bytes(Image.fromarray(value)) for value in values])
    assert frames_sha256(frames) == hashlib.sha256(values.tobytes()).hexdigest()
    assert frames_sha256(frames[::-1]) != frames_sha256(frames)


@pytest.mark.parametrize(
    ("size", "count", "tile", "rows"),
    [((64, 64), 17, (192, 192), 3), ((832, 480), 81, (192, 111), 4), ((16, 32), 1, (96, 192), 1)],
)
def test_contact_sheet_shows_every_chosen_frame_in_its_place(size, count, tile, rows):
    frames = [Image.new("RGB", size, BLUE)] * (count - 1) + [Image.new("RGB", size, RED)]
    sheet = np.asarray(contact_sheet(frames, "seed 1", 16.0))
    shown = min(count, 24)
    columns = min(shown, 6)
    assert sheet.shape == (16 + 8 + rows * (tile[1] + 24) + 8, columns * (tile[0] + 8) + 8, 3)
    assert (sheet == RED).all(-1).sum() == tile[0] * tile[1], "the last frame is always among those chosen"
    assert (sheet == BLUE).all(-1).sum() == (shown - 1) * tile[0] * tile[1]


def _write(folder, **record):
    return write_results(folder, "红_seed0", b"video", b"sheet", record)


@pytest.fixture(autouse=True)
def state(monkeypatch, tmp_path):
    """The lock lies in the test's own folder."""
    monkeypatch.setattr(output, "STATE", tmp_path / "state")


def test_a_second_run_does_not_overwrite_the_first(tmp_path):
    folder = tmp_path / "输出 out"
    first, second = _write(folder, run=1), _write(folder, run=2)
    assert [path.name for path in first.values()] == ["红_seed0.mp4", "红_seed0.png", "红_seed0.json"]
    assert [path.name for path in second.values()] == ["红_seed0-2.mp4", "红_seed0-2.png", "红_seed0-2.json"]
    record = json.loads(first["record"].read_text(encoding="utf-8"))
    sheet = hashlib.sha256(first["contact_sheet"].read_bytes()).hexdigest()
    names = {kind: path.name for kind, path in first.items()}
    assert record == {"run": 1, "files": names, "contact_sheet_sha256": sheet}
    assert first["video"].read_bytes() == b"video" and first["contact_sheet"].read_bytes() == b"sheet"
    assert len(list(folder.iterdir())) == 6, "nothing half-written stays"


def test_one_file_of_a_name_is_enough_to_take_it(tmp_path):
    (tmp_path / "红_seed0.png").write_text("mine")
    assert _write(tmp_path)["video"].name == "红_seed0-2.mp4"
    assert (tmp_path / "红_seed0.png").read_text() == "mine"


@pytest.mark.parametrize("at", [0, 2])
def test_a_failure_while_writing_leaves_nothing(tmp_path, monkeypatch, at):
    calls, replace = [], output.os.replace

    def fail(source, target):
        calls.append(target)
        if len(calls) > at:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(output.os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        _write(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
