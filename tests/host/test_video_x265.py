"""Small pictures and single frames in h265: the same bytes each time, times that a file can hold, or refused."""

from types import SimpleNamespace

import av
import pytest
import torch

from wan_gguf.host.video_codecs import encoder_options, video_format
from wan_gguf.host.video_file import VideoWriter
from wan_gguf.host.video_x265 import with_times

VIDEO = video_format("h265", -1, "auto", 16, 16)


def write(path, frames, width, height):
    noise = torch.rand(frames, height, width, 3, generator=torch.Generator().manual_seed(0))
    with VideoWriter(path, VIDEO, width, height, {}) as writer:
        writer.write(noise)
        writer.finish()
    return path.read_bytes()


@pytest.mark.parametrize(("width", "height"), [(64, 64), (64, 128), (128, 16)])
def test_noise_in_a_small_picture_gives_the_same_bytes(tmp_path, width, height):
    assert len({write(tmp_path / "a", 9, width, height) for _ in range(8)}) == 1


def test_larger_pictures_keep_their_blocks():
    sizes = ((64, 96), (96, 64), (65, 66), (832, 480))
    assert ["ctu" in encoder_options(VIDEO, *size)["x265-params"] for size in sizes] == [True, True, False, False]


@pytest.mark.parametrize(("width", "height"), [(16, 16), (32, 32), (48, 48), (48, 128), (64, 8)])
def test_pictures_that_it_may_crash_with_are_refused(tmp_path, width, height):
    with pytest.raises(ValueError, match=rf"codec: h265 needs 64 x 16 px and more, the frames are {width} x {height} "):
        VideoWriter(tmp_path / "a", VIDEO, width, height, {})
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("frames", [1, 2, 3, 5])
def test_short_videos_have_times(tmp_path, frames):
    write(tmp_path / "a", frames, 96, 96)
    with av.open(str(tmp_path / "a")) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        assert len(packets) == frames
    with av.open(str(tmp_path / "a")) as container:
        shown = [frame.pts * frame.time_base * 16 for frame in container.decode(video=0)]
    assert shown == list(range(frames))


@pytest.mark.parametrize(("frames", "times"), [(1, [0]), (2, [0, 1]), (3, [-2, -1, 0])])
def test_times_that_x265_never_wrote_are_replaced_and_others_are_not(frames, times):
    never_written = -139892398247744
    given = [number - 2 if frames > 2 else never_written + number for number in range(frames)]
    packets = [SimpleNamespace(pts=number, dts=dts) for number, dts in enumerate(given)]
    assert [packet.dts for packet in with_times(packets, frames)] == times
