"""Reading a job's pictures: frames one at a time, the contact sheet, and which errors mean a damaged file."""

import io

import numpy as np
import pytest
from PIL import Image

from wan_gguf.cli.batch_pictures import (
    DamagedFileError,
    ImageFiles,
    UndrawableError,
    check_readable,
    chosen_frames,
    make_sheet,
)
from wan_gguf.cli.output import decode_frames
from wan_gguf.tests.cli.fake_comfy import png


def film(path, count: int, codec: str = "libx264"):
    """A small film in which frame i has brightness 2 i."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options={"crf": "1"})
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for number in range(count):
            frame = av.VideoFrame.from_image(Image.new("RGB", (32, 32), (2 * number,) * 3))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def sound(path):
    """A film without pictures."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        for piece in av.AudioResampler(format=stream.format, layout=stream.layout, rate=48000).resample(frame):
            container.mux(stream.encode(piece))
        container.mux(stream.encode())
    return path


def test_of_a_video_only_the_frames_of_the_sheet_are_kept(tmp_path):
    frames, fps = chosen_frames(film(tmp_path / "v.mp4", 100))
    assert (len(frames), fps, len(frames._kept)) == (100, 10.0, 24)
    for number in (0, 99):
        assert abs(frames[number].getpixel((5, 5))[0] - 2 * number) <= 8  # 8 bits of YUV
    sheet = make_sheet([tmp_path / "v.mp4"], [], "title", None)
    assert sheet is not None and sheet.width > sheet.height


def test_images_are_read_one_at_a_time_and_nothing_at_all_has_no_sheet(tmp_path):
    (tmp_path / "a.png").write_bytes(png(0x0A0B0C))
    frames = ImageFiles([tmp_path / "a.png"])
    assert [frame.getpixel((0, 0)) for frame in frames] == [(10, 11, 12)]
    assert make_sheet([], [], "t", None) is None


@pytest.mark.parametrize("end", [".mp4", ".mov"])
def test_a_video_with_its_index_at_the_end_is_no_video_wherever_it_was_cut_off(tmp_path, end):
    """FFmpeg ends in many ways: no streams, a stream without a codec or a frame, end of file, invalid data."""
    path = film(tmp_path / f"v{end}", 5)
    whole = path.read_bytes()
    index = whole.index(b"moov")
    places = whole.index(b"stco", index) + 16  # where the frames are is told last
    for length in [0, 7, len(whole) // 2, *range(index, places, 12)]:
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedFileError, match=rf"^v{end}: "):
            make_sheet([path], [], "t", None)


@pytest.mark.parametrize(("end", "codec"), [(".webm", "libvpx-vp9"), (".mkv", "libx264")])
def test_a_video_whose_head_was_cut_off_is_no_video_and_no_fault_of_our_disk(tmp_path, end, codec):
    """FFmpeg reports these as an OSError, input/output error."""
    path = film(tmp_path / f"v{end}", 5, codec)
    whole = path.read_bytes()
    for length in (0, 40, 60, 100, 200):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedFileError):
            make_sheet([path], [], "t", None)


def test_a_gif_that_was_cut_off_is_no_video(tmp_path):
    (tmp_path / "v.gif").write_bytes(b"GIF89a")
    with pytest.raises(DamagedFileError):
        make_sheet([tmp_path / "v.gif"], [], "t", None)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_that_was_cut_off_is_none(tmp_path, kind):
    buffer = io.BytesIO()
    Image.effect_noise((32, 32), 50).save(buffer, kind)
    whole, path = buffer.getvalue(), tmp_path / f"p.{kind.lower()}"
    for length in (0, 10, 30, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedFileError, match=r"^p\.") as damage:
            make_sheet([], [path], "t", None)
        assert str(tmp_path) not in str(damage.value)


def test_a_png_with_a_broken_chunk_is_damaged(tmp_path):
    """Pillow raises SyntaxError."""
    content = bytearray(png(1))
    content[content.index(b"IDAT") + 1] = 0xB4
    (tmp_path / "p.png").write_bytes(content)
    with pytest.raises(DamagedFileError):
        make_sheet([], [tmp_path / "p.png"], "t", None)


def test_a_sound_picture_that_pillow_refuses_is_not_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 31)  # twice that is refused
    (tmp_path / "p.png").write_bytes(png(1))
    with pytest.raises(UndrawableError, match=r"p\.png is too large to be read as a picture"):
        make_sheet([], [tmp_path / "p.png"], "t", None)
    check_readable([tmp_path / "p.png"])


def test_a_video_file_with_sound_only_is_not_damaged(tmp_path):
    path = sound(tmp_path / "v.mp4")
    with pytest.raises(UndrawableError, match=r"v\.mp4 has sound, but no pictures"):
        make_sheet([path], [], "t", None)
    check_readable([path])


def test_a_file_that_is_not_there_is_a_fault_of_the_disk(tmp_path):
    with pytest.raises(FileNotFoundError):
        make_sheet([], [tmp_path / "none.png"], "t", None)


def test_every_file_is_read_to_its_end(tmp_path):
    path = film(tmp_path / "v.mp4", 5)
    (tmp_path / "p.png").write_bytes(png(1)[:50])
    check_readable([path])
    with pytest.raises(DamagedFileError, match=r"^p\.png"):
        check_readable([path, tmp_path / "p.png"])


@pytest.mark.parametrize("ending", ["png", "webp"])
def test_an_animated_picture_is_all_its_frames(tmp_path, ending):
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    first, *rest = [Image.new("RGB", (16, 16), colour) for colour in colours]
    first.save(tmp_path / f"a.{ending}", save_all=True, append_images=rest, lossless=True)
    (tmp_path / "b.png").write_bytes(png(0x0A0B0C))
    files = [tmp_path / f"a.{ending}", tmp_path / "b.png"]
    frames = ImageFiles(files)
    shown = [frames[number].getpixel((5, 5)) for number in (0, 1, 2, 3, 1)]
    assert shown == [*colours, (0x0A, 0x0B, 0x0C), colours[1]] and len(frames) == 4
    decoded = decode_frames([file.read_bytes() for file in files])
    assert [frame.tobytes() for frame in decoded] == [frame.tobytes() for frame in frames]
