"""The tiles in a record: what a node tells, what a run that makes the result again is told, and what it cannot do."""

import pytest

from wan_gguf.cli.errors import CliError
from wan_gguf.cli.record_tiling import AGAIN, check_memory, check_same, is_tiling, made_again, told_tiling
from wan_gguf.host.video_memory import AUTO, OFF, TILINGS, Choice
from wan_gguf.host.video_tiles import Tiling
from wan_gguf.nodes import graph_saving

TILES = {"tile_px": 256, "overlap_px": 64}


def shown(*tilings) -> dict:
    """A node's output with a record of each video."""
    return {"wan_gguf": [{"video": {"codec": "h264", "tiling": tiling}} for tiling in tilings]}


def record(told, **inputs) -> dict:
    return {"workflow": {"save": {"class_type": "WanGGUFSaveVideo", "inputs": inputs}}, "tiling": {"save": told}}


def test_what_nodes_tell_of_their_videos():
    outputs = {
        "whole": shown(OFF), "tiled": shown(TILES, TILES), "mixed": shown(OFF, TILES), "other": {"images": []},
        "odd": {"wan_gguf": ["text"]}, "odder": {"wan_gguf": 5}, "none": None, "older": {"wan_gguf": [{"frames": 5}]},
        "huge": shown({**TILES, "tile_px": 1 << 20}),
    }  # fmt: skip
    assert told_tiling(outputs) == {"whole": OFF, "tiled": TILES, "mixed": None}


@pytest.mark.parametrize("tiling", [None, Tiling.of_pixels(256, 8), Tiling.of_pixels(1024, 16)])
def test_the_form_is_the_nodes(tiling):
    assert is_tiling(Choice(tiling).record())


@pytest.mark.parametrize(
    "value", ["auto", 5, [], {}, {"tile_px": 256}, {**TILES, "overlap_px": True}, {**TILES, "x": 1}]
)
def test_other_forms(value):
    assert not is_tiling(value)


def test_tiles_are_named_where_the_workflow_leaves_the_choice():
    assert made_again(record(TILES)) == made_again(record(TILES, tiling=AUTO)) == {AGAIN: {"tiling": {"save": "256"}}}
    assert made_again(record(TILES, tiling=["another", 0])) == made_again(record(TILES)), (
        "the node knows what it is given"
    )
    for fixed in (record(TILES, tiling="256"), record(OFF), record(None), {"workflow": {}}):
        assert made_again(fixed) is None
    assert made_again({**record(TILES), "tiling": {"gone": TILES}}) is None
    assert str(TILES["tile_px"]) in TILINGS and graph_saving.AGAIN == AGAIN


def test_whole_frames_that_are_tiled_now_cannot_be_compared():
    with pytest.raises(CliError, match="save decoded whole frames then, and now tiles of 256 px that overlap by 64 px"):
        check_memory(record(OFF), {"save": shown(TILES)})
    with pytest.raises(CliError, match="save decoded whole frames then"):
        check_memory(record(OFF), {"save": shown(OFF, TILES)})
    for then, now in ((OFF, OFF), (TILES, TILES), (TILES, OFF)):
        check_memory(record(then), {"save": shown(now)})
    check_memory(record(OFF, tiling="256"), {"save": shown(TILES)})  # the workflow says so, whatever memory there is
    check_memory({"workflow": {}}, {"save": shown(TILES)})


def test_videos_that_were_not_decoded_alike_cannot_be_made_again():
    with pytest.raises(CliError, match="save decoded some videos whole and some in tiles"):
        check_same(record(None))
    for known in (record(OFF), record(TILES), record(None, tiling="off"), {"workflow": {}}):
        check_same(known)
