"""How the frames of a result were decoded: whole, or in tiles, which 'Wan GGUF Save Video' takes where memory is short.

Tiles change pixels, so a record tells them, `tiling`: node -> "off" (whole frames) or {"tile_px", "overlap_px"}, as the
node tells it; null if it did not do the same for all its videos. Where the workflow left the choice to the node, a run
that makes the result again names it the tiles.
"""

from collections.abc import Iterable, Mapping

from .errors import CliError

OWN_SAVER = "WanGGUFSaveVideo"
AUTO, OFF = "auto", "off"
AGAIN = "wan_gguf_again"  # what nodes/graph_saving.py looks for in a prompt's extra_pnginfo
SIZES = ("tile_px", "overlap_px")
MAX_TILE_PX = 1 << 16
Tiling = str | Mapping[str, int] | None


def told_records(output: object) -> list[Mapping]:
    """What the node tells of its videos, from its output in /history; none from another node's, whatever that is."""
    told = output.get("wan_gguf") if isinstance(output, Mapping) else None
    return [record for record in told if isinstance(record, Mapping)] if isinstance(told, list) else []


def told_tiling(outputs: Mapping[str, dict]) -> dict[str, Tiling]:
    """Node -> how it says it has decoded."""
    return joined_tiling((node, record) for node, output in outputs.items() for record in told_records(output))


def joined_tiling(records: Iterable[tuple[str, Mapping]]) -> dict[str, Tiling]:
    """The same from (node, what it tells of a video, in its output or in the file's tags)."""
    joined: dict[str, Tiling] = {}
    for node, record in records:
        tiling = _of_record(record)
        if tiling is not None:
            joined[node] = tiling if joined.get(node, tiling) == tiling else None
    return joined


def is_tiling(value: object) -> bool:
    """Whether it is in the form of one node's."""
    if value is None or value == OFF:
        return True
    is_sized = isinstance(value, dict) and set(value) == set(SIZES)
    return is_sized and all(type(value[size]) is int and 0 < value[size] <= MAX_TILE_PX for size in SIZES)


def made_again(record: Mapping) -> dict | None:
    """The extra_pnginfo of a run that is to take the record's tiles where its workflow leaves the choice; else None."""
    pinned = {
        node: str(tiling["tile_px"])
        for node, tiling in record.get("tiling", {}).items()
        if isinstance(tiling, Mapping) and _is_free(record["workflow"], node)
    }
    return {AGAIN: {"tiling": pinned}} if pinned else None


def check_same(record: Mapping) -> None:
    """Raise CliError, before anything is run, if it is not known which of a node's videos were decoded in tiles."""
    for node, then in record.get("tiling", {}).items():
        if then is None and _is_free(record["workflow"], node):
            raise CliError(
                f"{node} decoded some videos whole and some in tiles, or in tiles of several sizes, as memory was "
                "short; which ones is not known, so they cannot be made again"
            )


def check_memory(record: Mapping, outputs: Mapping[str, dict]) -> None:
    """Raise CliError where frames that were decoded whole came in tiles now: then nothing can be compared."""
    for node, then in record.get("tiling", {}).items():
        tiled = [tiling for told in told_records(outputs.get(node)) if isinstance(tiling := _of_record(told), Mapping)]
        if then == OFF and tiled and _is_free(record["workflow"], node):
            sizes = "{tile_px} px that overlap by {overlap_px} px".format_map(tiled[0])
            raise CliError(
                f"{node} decoded whole frames then, and now tiles of {sizes}, as memory is short, so the frames cannot "
                "be compared; close other programs, or check it on a machine with more memory"
            )


def _of_record(record: Mapping) -> Tiling:
    video = record.get("video")
    tiling = video.get("tiling") if isinstance(video, Mapping) else None
    return tiling if is_tiling(tiling) else None


def _is_free(workflow: Mapping, node: str) -> bool:
    """Whether the node chooses by the memory there is, or may do so, as another node gives it its tiling."""
    body = workflow.get(node, {})
    if body.get("class_type") != OWN_SAVER:
        return False
    asked = body["inputs"].get("tiling", AUTO)
    return asked == AUTO or not isinstance(asked, str)
