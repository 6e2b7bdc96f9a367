"""The command line takes what the node takes, and another codec does not trip over the settings of the old one."""

import itertools

import pytest

from wan_gguf.cli.errors import UsageError
from wan_gguf.cli.video_choices import (
    CODECS,
    DEFAULTS,
    PIXEL_FORMATS,
    PIXEL_FORMATS_OF,
    TILINGS,
    check_settings,
    with_options,
)

JOB = {"codec": "h264", "crf": 18, "pixel_format": "yuv420p10le", "fps": 12.5, "tiling": "256"}


def refuses(check, error, *values):
    try:
        check(*values)
    except error:
        return True
    return False


def test_the_choices_are_those_of_the_node():
    from wan_gguf.host import video_codecs, video_memory

    assert tuple(video_codecs.CODECS) == CODECS and PIXEL_FORMATS == video_codecs.PIXEL_FORMATS
    assert TILINGS == video_memory.TILINGS


def test_what_the_node_refuses_is_refused_and_nothing_else():
    from wan_gguf.host.video_codecs import check_video_format

    crfs, rates = (-2, -1, 0, 51, 52, 63, 64), (0, 0.001, 0.01, 240.0, 241.0, -1, float("nan"))
    for values in itertools.product((*CODECS, "av1"), crfs, (*PIXEL_FORMATS, "gray"), rates):
        settings = {**DEFAULTS, **dict(zip(("codec", "crf", "pixel_format", "fps"), values, strict=True))}
        ours = refuses(check_settings, UsageError, settings)
        assert ours == refuses(check_video_format, ValueError, *values), values


def test_a_tiling_that_is_none():
    with pytest.raises(UsageError, match="--tiling is 100; allowed: auto, off, 1024"):
        check_settings({**DEFAULTS, "tiling": "100"})


def test_what_is_not_given_is_the_jobs():
    assert with_options(JOB, {}) == JOB
    assert with_options(JOB, {"codec": "h264", "fps": 24.0}) == {**JOB, "fps": 24.0}
    assert with_options({}, {}) == DEFAULTS


@pytest.mark.parametrize("codec", [codec for codec in CODECS if codec != "h264"])
def test_another_codec_starts_from_its_usual_quality(codec):
    pixels = "yuv420p10le" if "yuv420p10le" in PIXEL_FORMATS_OF[codec] else "auto"
    settings = with_options(JOB, {"codec": codec})
    assert settings == {**JOB, "codec": codec, "crf": -1, "pixel_format": pixels}
    check_settings(settings)


def test_quality_and_pixel_format_that_are_given_with_the_codec_count():
    given = {"codec": "vp9", "crf": 40, "pixel_format": "yuv444p"}
    assert with_options(JOB, given) == {**JOB, **given}
