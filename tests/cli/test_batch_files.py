"""A job's folder: names of files, the prefix given to saving nodes, appearing whole or not at all; its pictures."""

import json

import pytest
from PIL import Image

from wan_gguf.cli.batch_files import (
    holds_job,
    partial_folder,
    place_folder,
    posted_workflow,
    publish,
    wanted_files,
    write_record,
)
from wan_gguf.cli.batch_pictures import ImageFiles, chosen_frames, make_sheet
from wan_gguf.cli.errors import CliError
from wan_gguf.tests.cli.fake_comfy import png

KEY = "0123456789abcdef" * 4


def entry(name: str, kind: str = "output") -> dict:
    return {"filename": name, "subfolder": "s", "type": kind}


def filled(out):
    """A folder that is ready to be published."""
    partial = partial_folder(out, KEY)
    (partial / "save.png").write_bytes(b"picture")
    write_record(partial, {"job": {"key": KEY}})
    return partial


def test_every_saving_node_writes_below_a_folder_of_job_and_attempt():
    made = {
        "9": {"class_type": "SaveVideo", "inputs": {"filename_prefix": "video/%date%"}},
        "1:2": {"class_type": "SaveImage", "inputs": {"filename_prefix": "a"}},
        "1_2": {"class_type": "SaveImage", "inputs": {"filename_prefix": "a"}},
        "5": {"class_type": "SaveImage", "inputs": {"filename_prefix": ["9", 0]}},
    }
    posted = posted_workflow(made, KEY, 1)
    prefixes = [body["inputs"]["filename_prefix"] for body in posted.values()]
    folder = "wan_gguf_batch/0123456789abcdef"
    assert prefixes == [f"{folder}/9", f"{folder}/1_2", f"{folder}/1_2_", ["9", 0]]
    assert made["9"]["inputs"]["filename_prefix"] == "video/%date%"
    assert posted_workflow(made, KEY, 3)["9"]["inputs"]["filename_prefix"] == f"{folder}-3/9"


def test_one_file_is_named_after_its_node_and_several_are_counted():
    outputs = {
        "12": {"images": [entry("a_00001_.mp4")], "animated": [True]},
        "7": {"images": [entry("f_00001_.png"), entry("f_00002_.png"), entry("f_00001_.png")]},
        "3": {"images": [entry("preview.png", "temp")]},
        "prompt": {"text": ["shown"]},
    }
    found = {file.path: file.entry["filename"] for file in wanted_files(outputs)}
    assert found == {"12.mp4": "a_00001_.mp4", "7/0001.png": "f_00001_.png", "7/0002.png": "f_00002_.png"}


def test_previews_count_only_where_nothing_was_saved():
    assert [file.path for file in wanted_files({"3": {"images": [entry("x.png", "temp")]}})] == ["3.png"]
    assert wanted_files({"3": {"text": ["a"]}, "4": {"images": ["odd", {}]}, "5": None}) == []


@pytest.mark.parametrize("name", ["../../evil.png", "/etc/x.png", "a.p/../../ng", "x.\x00png"])
def test_a_servers_file_names_never_leave_the_folder(name):
    (file,) = wanted_files({"../up": {"images": [entry(name)]}})
    assert file.path.startswith("___up") and "/" not in file.path and "\x00" not in file.path


def test_a_folder_appears_whole_under_each_of_its_places(tmp_path):
    targets = [place_folder(tmp_path, 1, "one"), place_folder(tmp_path, 12345, "名")]
    publish(filled(tmp_path), KEY, targets)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0001-one", "12345-名"]
    assert all(holds_job(target, KEY) and (target / "save.png").read_bytes() == b"picture" for target in targets)
    assert not holds_job(targets[0], "other key")


def test_publishing_once_more_changes_nothing_and_fills_what_is_missing(tmp_path):
    first, second = place_folder(tmp_path, 1, "one"), place_folder(tmp_path, 2, "two")
    publish(filled(tmp_path), KEY, [first])
    (first / "note.txt").write_text("the user's")
    publish(filled(tmp_path), KEY, [first, second])
    assert (first / "note.txt").exists() and holds_job(second, KEY)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0001-one", "0002-two"]


def test_what_an_earlier_run_left_half_is_removed(tmp_path):
    (partial_folder(tmp_path, KEY) / "half").write_text("")
    assert list(partial_folder(tmp_path, KEY).iterdir()) == []


def test_something_else_under_the_name_is_not_replaced(tmp_path):
    target = place_folder(tmp_path, 1, "one")
    target.mkdir()
    (target / "settings.json").write_text(json.dumps({"job": {"key": "another"}}))
    with pytest.raises(CliError, match="is not this job's result; move it away"):
        publish(filled(tmp_path), KEY, [target])
    assert json.loads((target / "settings.json").read_text()) == {"job": {"key": "another"}}


@pytest.mark.parametrize("text", ["{", "[]", '{"job": 3}', "\x00"])
def test_a_damaged_record_is_no_result(tmp_path, text):
    (tmp_path / "settings.json").write_text(text)
    assert not holds_job(tmp_path, KEY)


def video(path, count: int):
    """A small film in which frame i has brightness 2 i."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for number in range(count):
            frame = av.VideoFrame.from_image(Image.new("RGB", (32, 32), (2 * number,) * 3))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_of_a_video_only_the_frames_of_the_sheet_are_kept(tmp_path):
    frames, fps = chosen_frames(video(tmp_path / "v.mp4", 100))
    assert (len(frames), fps, len(frames._kept)) == (100, 10.0, 24)
    for number in (0, 99):
        assert abs(frames[number].getpixel((5, 5))[0] - 2 * number) <= 8  # 8 bits of YUV
    sheet = make_sheet([tmp_path / "v.mp4"], [], "title", None)
    assert sheet is not None and sheet.width > sheet.height


def test_a_video_that_was_cut_off_is_no_video(tmp_path):
    path = video(tmp_path / "v.mp4", 30)
    path.write_bytes(path.read_bytes()[:-400])  # the index is at the end
    with pytest.raises((ValueError, OSError)) as damage:
        chosen_frames(path)
    assert isinstance(damage.value, ValueError) or damage.value.errno is None


def test_images_are_read_one_at_a_time_and_nothing_at_all_has_no_sheet(tmp_path):
    (tmp_path / "a.png").write_bytes(png(0x0A0B0C))
    frames = ImageFiles([tmp_path / "a.png"])
    assert [frame.getpixel((0, 0)) for frame in frames] == [(10, 11, 12)]
    assert make_sheet([], [], "t", None) is None
