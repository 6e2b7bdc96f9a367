"""How the frames of a result were decoded: whole, or in tiles, which 'Wan GGUF Save Video' takes where memory is short.

Tiles change pixels, so a record tells them, `tiling`: node -> "off" (whole frames) or {"tile_px", "overlap_px"}, as the
node tells it. Where the workflow left the choice to the node, a run that makes the result again names it the tiles.
"""

from collections.abc import Mapping

from .errors import CliError

OWN_SAVER = "WanGGUFSaveVideo"
AUTO, OFF = "auto", "off"
AGAIN = "wan_gguf_again"  # what nodes/graph_saving.py looks for in a prompt's extra_pnginfo
SIZES = ("tile_px", "overlap_px")
MAX_TILE_PX = 1 << 16


def told_records(output: object) -> list[Mapping]:
    """What the node tells of its videos, from its output in /history; none from another node's, whatever that is."""
    told = output.get("wan_gguf") if isinstance(output, Mapping) else None
    return [record for record in told if isinstance(record, Mapping)] if isinstance(told, list) else []


def told_tiling(outputs: Mapping[str, dict]) -> dict[str, str | dict]:
    """Node -> how it says it has decoded; nodes that did not do the same for all their videos are left out."""
    told = {}
    for node, output in outputs.items():
        found = [_of_record(record) for record in told_records(output)]
        if found and found[0] is not None and all(tiling == found[0] for tiling in found):
            told[node] = found[0]
    return told


def is_tiling(value: object) -> bool:
    """Whether it is in the form of one node's."""
    if value == OFF:
        return True
    is_sized = isinstance(value, dict) and set(value) == set(SIZES)
    return is_sized and all(type(value[size]) is int and 0 < value[size] <= MAX_TILE_PX for size in SIZES)


def made_again(record: Mapping) -> dict | None:
    """The extra_pnginfo of a run that is to take the record's tiles where its workflow leaves the choice; else None."""
    pinned = {
        node: str(tiling["tile_px"])
        for node, tiling in record.get("tiling", {}).items()
        if tiling != OFF and _is_free(record["workflow"], node)
    }
    return {AGAIN: {"tiling": pinned}} if pinned else None


def check_memory(record: Mapping, outputs: Mapping[str, dict]) -> None:
    """Raise CliError where frames that were decoded whole came in tiles now: then nothing can be compared."""
    now = told_tiling(outputs)
    for node, then in record.get("tiling", {}).items():
        if then == OFF and now.get(node, OFF) != OFF and _is_free(record["workflow"], node):
            raise CliError(
                f"{node} decoded whole frames then, and now {describe(now[node])}, as memory is short, so the frames "
                "cannot be compared; close other programs, or check it on a machine with more memory"
            )


def describe(tiling: str | Mapping[str, int]) -> str:
    """For people."""
    return (
        "whole frames" if tiling == OFF else "tiles of {tile_px} px that overlap by {overlap_px} px".format_map(tiling)
    )


def _of_record(record: Mapping) -> str | dict | None:
    video = record.get("video")
    tiling = video.get("tiling") if isinstance(video, Mapping) else None
    return tiling if is_tiling(tiling) else None


def _is_free(workflow: Mapping, node: str) -> bool:
    """Whether the node chooses by the memory there is."""
    body = workflow.get(node, {})
    return body.get("class_type") == OWN_SAVER and body["inputs"].get("tiling", AUTO) == AUTO
