"""What is in a written file, that it is the same bytes every time, and what happens when it cannot be written."""

import errno
import hashlib
import json

import av
import numpy as np
import pytest
import torch

from wan_gguf.host.video_codecs import CODECS, VideoFormat, check_video_format, video_format
from wan_gguf.host.video_file import VideoWriter, to_8_bits

resource = pytest.importorskip("resource", reason="limits of a process, which Windows has not")

WIDTH, HEIGHT, FRAMES = 64, 48, 9
FORMATS = [(codec, pixels) for codec, known in CODECS.items() for pixels in known.pixel_formats]
EXACT = [("h264", "yuv420p"), ("h265", "yuv420p"), ("vp9", "yuv420p"), ("ffv1", "rgb24"), ("h264", "yuv420p10le")]


def moving_colours(frames=FRAMES):
    """(frames, HEIGHT, WIDTH, 3): flat patches of many colours that drift; flat, so halved colours lose little."""
    generator = torch.Generator().manual_seed(0)
    patches = torch.rand(HEIGHT // 16, WIDTH // 16, 3, generator=generator)
    picture = patches.repeat_interleave(16, 0).repeat_interleave(16, 1)
    return torch.stack([picture.roll(2 * number, 1) for number in range(frames)])


def write(path, video, frames, tags=None, width=WIDTH, height=HEIGHT):
    with VideoWriter(path, video, width, height, tags or {}) as writer:
        for piece in frames.split(4):
            writer.write(piece)
        return writer.finish()


def read(path):
    """(RGB frames uint8, the container's tags, the video stream's properties)."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        context = stream.codec_context
        found = (context.name, context.pix_fmt, stream.average_rate, context.colorspace, context.color_range)
        return np.stack(frames), dict(container.metadata), found


@pytest.mark.parametrize(("codec", "pixels"), FORMATS)
def test_every_codec_writes_every_one_of_its_pixel_formats(tmp_path, codec, pixels):
    frames = moving_colours()
    path = tmp_path / f"名 {codec}.part"  # the name does not tell the container
    write(path, video_format(codec, -1 if codec == "ffv1" else 8, pixels, 24, 16), frames)
    found, _, (name, stored, rate, colorspace, colour_range) = read(path)
    assert found.shape == (FRAMES, HEIGHT, WIDTH, 3)
    assert name == {"h265": "hevc"}.get(codec, codec)
    assert stored == {"rgb24": "bgr0"}.get(pixels, pixels)
    assert rate == 24
    error = np.abs(found.astype(int) - to_8_bits(frames).astype(int))
    if pixels == "rgb24":
        assert error.max() == 0
    else:
        assert (colorspace, colour_range) == (1, 1)  # BT.709, limited
        # 219 steps and crf 8 cost 1 or 2 inside a patch; with the matrix of BT.601 half of the values are off by 4 to 7
        assert np.median(error) <= 2, np.median(error)


@pytest.mark.parametrize(("codec", "pixels"), EXACT)
def test_the_same_frames_give_the_same_bytes(tmp_path, codec, pixels):
    """A second between the files: a time in them would show."""
    video, tags = video_format(codec, -1, pixels, 16, 16), {"prompt": {"a": 1}, "workflow": {"提示": "词"}}
    hashes = [write(tmp_path / name, video, moving_colours(40), tags) for name in ("a", "b")]
    assert hashes[0] == hashes[1]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_bytes_do_not_depend_on_the_number_of_processors(tmp_path, monkeypatch):
    """x264 takes as many threads as there are processors, unless it is told; and its output depends on them."""
    path = tmp_path / "a.mp4"
    with VideoWriter(path, video_format("h264", -1, "auto", 16, 16), WIDTH, HEIGHT, {}) as writer:
        assert writer._stream.codec_context.thread_count == 1
        writer.write(moving_colours())
        writer.finish()
    assert b" threads=1 " in path.read_bytes()  # x264 writes its settings into the stream


@pytest.mark.parametrize("codec", CODECS)
def test_prompt_and_workflow_travel_in_the_file(tmp_path, codec):
    tags = {"prompt": {"1": {"inputs": {"text": '红色圆形 "quoted"\n'}}}, "workflow": {"nodes": []}, "wan_gguf": {}}
    path = tmp_path / f"video.{CODECS[codec].extension}"
    write(path, video_format(codec, -1, "auto", 16, 16), moving_colours(), tags)
    found = {name.lower(): value for name, value in read(path)[1].items()}  # Matroska's names are upper case
    assert {name: json.loads(found[name]) for name in tags} == tags


def test_the_hash_is_that_of_the_8_bit_frames(tmp_path):
    frames = moving_colours() * 1.2 - 0.1  # below 0 and above 1, too
    found = write(tmp_path / "a", video_format("ffv1", -1, "auto", 16, 16), frames)
    expected = (255.0 * frames.numpy()).clip(0, 255).astype(np.uint8)  # as the host's Save Image does it
    assert found == hashlib.sha256(expected.tobytes()).hexdigest()
    assert np.array_equal(read(tmp_path / "a")[0], expected)


def test_ten_bits_come_from_the_floats(tmp_path):
    """A slope within one 8-bit step is flat in 8 bits and a slope in 10."""
    ramp = torch.linspace(100.05 / 255, 100.95 / 255, WIDTH).expand(HEIGHT, WIDTH)[None, ..., None].repeat(2, 1, 1, 3)
    levels = {}
    for pixels in ("yuv444p", "yuv444p10le"):
        write(tmp_path / pixels, video_format("ffv1", -1, pixels, 16, 16), ramp)
        with av.open(str(tmp_path / pixels)) as container:
            luma = next(container.decode(video=0)).planes[0]
            levels[pixels] = len(np.unique(np.frombuffer(luma, np.uint16 if "10" in pixels else np.uint8)[:WIDTH]))
    assert levels == {"yuv444p": 1, "yuv444p10le": levels["yuv444p10le"]} and levels["yuv444p10le"] >= 3


@pytest.mark.parametrize("size", [16, 32, 48])
@pytest.mark.parametrize("codec", [codec for codec in CODECS if codec != "h265"])
def test_small_frames_are_written_whole(tmp_path, codec, size):
    """Other than with h265, see test_video_x265.py."""
    noise = torch.rand(9, size, size, 3, generator=torch.Generator().manual_seed(0))
    write(tmp_path / "a", video_format(codec, -1, "auto", 16, 16), noise, width=size, height=size)
    assert read(tmp_path / "a")[0].shape == (9, size, size, 3)


def test_odd_sides_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"yuv420p needs even sides, the frames are 63 x 48 px; choose yuv444p"):
        VideoWriter(tmp_path / "a", VideoFormat("h264", "yuv420p", 19, 16.0), 63, 48, {})
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("codec", ["h264", "vp9", "ffv1"])
def test_a_full_disk_is_an_error_and_not_a_shorter_video(tmp_path, codec):
    """A limit on the size of files stands in for the full disk: the system refuses the same writes."""
    noise = torch.rand(60, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(0))
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
    try:
        with pytest.raises(OSError) as failure:
            write(tmp_path / "a", video_format(codec, -1, "auto", 16, 16), noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert failure.value.errno == errno.EFBIG or "frames" in str(failure.value)


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        write(tmp_path / "gone" / "a", video_format("h264", -1, "auto", 16, 16), moving_colours())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("h264", 52, "auto", 0), "crf: must be 0 to 51 for h264, or -1 for its usual, got 52"),
        (("vp9", 64, "auto", 0), "crf: must be 0 to 63 for vp9"),
        (("ffv1", 10, "auto", 0), "crf: ffv1 loses nothing and has no quality to choose; set crf to -1"),
        (("h264", -1, "rgb24", 0), "pixel_format: h264 cannot be written as 'rgb24'; allowed: auto, yuv420p, "),
        (("av1", -1, "auto", 0), "codec: 'av1' is unknown; allowed: h264, h265, vp9, ffv1"),
        (("h264", -1, "auto", -1), "fps: must be 0.01 to 240, or 0 for the model's own, got -1"),
        (("h264", -1, "auto", float("nan")), "fps: must be 0.01 to 240"),
    ],
)
def test_values_that_do_not_go_together_are_refused(values, message):
    with pytest.raises(ValueError) as refused:
        check_video_format(*values)
    assert str(refused.value).startswith(message)


def test_the_frame_rate_is_the_models_own_unless_it_is_given():
    rates = [video_format("h264", -1, "auto", fps, channels).fps for fps, channels in ((0, 16), (0, 48), (23.976, 48))]
    assert rates == [16.0, 24.0, 23.976]
    with pytest.raises(ValueError, match="fps: 0 takes the model's own, which is not known for 12 channels; set it"):
        video_format("h264", -1, "auto", 0, 12)
