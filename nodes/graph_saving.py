"""What a queued workflow makes of a sampler's latents: the file's settings, the VAE, and the names of a list's rows.

It is for the rows of a list that stops. Whatever is not understood is left out, and asked for when a row is finished.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from comfy_api.latest import io

from ..host.input_files import input_file
from ..host.unfinished_rows import NOTHING_KNOWN, VideoPlan
from ..text.prompt_list import load_prompt_list, parse_prompt_list
from .graph_files import chosen_vae
from .graph_walk import inputs_of, kind_of, latent_source, source_of

SAVER, LIST = "WanGGUFSaveVideo", "WanGGUFPromptList"
AGAIN = "wan_gguf_again"  # in extra_pnginfo: what a run that makes a result again takes from its record
VIDEO_SETTINGS = ("codec", "crf", "pixel_format", "fps", "tiling")  # inputs of the saver that a latent remembers


def video_plan(hidden: io.HiddenHolder | None, n_rows: int) -> VideoPlan:
    """For the node `hidden` belongs to, which samples so many rows; one row has none. Reads the rows' list again."""
    if hidden is None or n_rows == 1 or not isinstance(hidden.prompt, Mapping):
        return NOTHING_KNOWN
    graph = hidden.prompt
    decoders = [
        node
        for node in graph
        if source_of(graph, node, "vae") is not None and latent_source(graph, node) == hidden.unique_id
    ]
    savers = [node for node in decoders if kind_of(graph, node) == SAVER]
    return VideoPlan(
        tags=run_tags(hidden),
        video=_constants(graph, savers[0]) if savers else None,
        vae_name=next((name for node in [*savers, *decoders] if (name := chosen_vae(graph, node))), None),
        names=_row_names(graph, savers, n_rows),
    )


def run_tags(hidden: io.HiddenHolder) -> dict[str, Any]:
    """Prompt and workflow under the names that the host's Save Video gives them."""
    tags = {name: value for name, value in (hidden.extra_pnginfo or {}).items() if name != AGAIN}
    return tags | ({} if hidden.prompt is None else {"prompt": _as_queued(hidden.prompt)})


def tiling_again(hidden: io.HiddenHolder | None) -> str | None:
    """The tiling a record has for the node `hidden` belongs to, where a run makes the record's result again."""
    told = None if hidden is None else hidden.extra_pnginfo
    for name in (AGAIN, "tiling"):
        told = told.get(name) if isinstance(told, Mapping) else None
    return told.get(str(hidden.unique_id)) if isinstance(told, Mapping) else None


def _as_queued(graph: Mapping) -> dict[str, Any]:
    """Without what the host notes in a graph that runs: times of model files, which copies of them do not share."""
    return {name: _without_notes(node) if isinstance(node, Mapping) else node for name, node in graph.items()}


def _without_notes(node: Mapping) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key != "is_changed"}


def _constants(graph: Mapping, saver: str) -> dict[str, Any]:
    """The saver's settings that are no links."""
    inputs = inputs_of(graph, saver)
    return {name: inputs[name] for name in VIDEO_SETTINGS if isinstance(inputs.get(name), str | int | float)}


def _row_names(graph: Mapping, savers: Sequence[str], n_rows: int) -> list[str | None]:
    """The names of the list whose rows name the files of a saver; nothing unless they are as many as the rows."""
    for saver in savers:
        source = source_of(graph, saver, "filename_prefix")
        if kind_of(graph, source) == LIST:
            names = _names_in(inputs_of(graph, source))
            return names if len(names) == n_rows else []
    return []


def _names_in(inputs: Mapping) -> list[str | None]:
    text, kind, list_name = (inputs.get(name) for name in ("text", "kind", "list_name"))
    if not all(isinstance(value, str) for value in (text, kind, list_name)):
        return []
    try:
        rows = parse_prompt_list(text, kind) if text.strip() else load_prompt_list(input_file(list_name))
    except (OSError, ValueError):
        return []
    return [row.name for row in rows]
