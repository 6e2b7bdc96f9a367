"""Which model and which VAE file a queued workflow puts together, read from its graph, to refuse a pair that cannot be.

The graph is the host's API form: {node id: {"class_type": name, "inputs": {name: value or link}}}, a link being
[node id, output slot]. Whatever is not understood gives no opinion: other loaders, linked file names, nodes that other
nodes make. The sampler and the decoder check what they are given once more.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from comfy_api.latest import io

from ..host.paths import model_path, reference_vae, vae_path
from ..host.vae import KNOWN_VAES, describe_channels
from ..loaders.describe import describe

# What samples, and what has the VAE that has to fit it: the decoder behind, or the latent before.
_PAIRS = (("WanGGUFSampler", "WanGGUFVAEDecode"), ("WanGGUFSampler", "WanGGUFEmptyLatent"))


def refuse_wrong_vae(hidden: io.HiddenHolder | None) -> None:
    """Raise ValueError if this node is part of making a video whose VAE has other channels than its model.

    `hidden` is the node's `cls.hidden` with prompt and unique_id; None, outside the host, means no graph. Reads headers
    only.
    """
    if hidden is None:
        return
    for model_name, vae_name in dict.fromkeys(model_vae_pairs(hidden.prompt, hidden.unique_id)):
        _check_pair(model_name, vae_name)


def model_vae_pairs(graph: object, node_id: object) -> Iterator[tuple[str, str]]:
    """(model_name, vae_name) of each decoder and of each sampler that depends on the node, where both are known."""
    if not isinstance(graph, Mapping):
        return
    for user in graph:
        sampler, vae_user = user, _source(graph, user, "latent")
        if _kind(graph, user) == "WanGGUFVAEDecode":
            sampler, vae_user = _source(graph, user, "samples"), user
        if (_kind(graph, sampler), _kind(graph, vae_user)) not in _PAIRS or not _depends(graph, user, node_id):
            continue
        model_name = _file_name(graph, _origin(graph, sampler, "model"), "WanGGUFModelLoader", "model_name")
        vae_name = _file_name(graph, _origin(graph, vae_user, "vae"), "VAELoader", "vae_name")
        if model_name is not None and vae_name is not None:
            yield model_name, vae_name


def _check_pair(model_name: str, vae_name: str) -> None:
    """Raise ValueError unless the two files have the same latent channels, or one of them is not what we know."""
    vae_file = vae_path(vae_name)
    try:
        model_file = model_path("unet_gguf", model_name)
    except (OSError, ValueError):  # the loader says what is wrong
        return
    if vae_file is None:
        return
    model, vae = describe(model_file), describe(vae_file)
    if (model.kind, vae.kind) != ("wan", "vae") or model.latent_channels == vae.latent_channels:
        return
    raise ValueError(
        f"the VAE '{vae_name}' has {describe_channels(vae.latent_channels)}, the model '{model_name}' has "
        f"{describe_channels(model.latent_channels)}; {_remedy(model_file, model.latent_channels)} in 'Load VAE'"
    )


def _remedy(model_file: Path, channels: int) -> str:
    right = reference_vae(model_file) or (KNOWN_VAES[channels][1] if channels in KNOWN_VAES else None)
    return f"choose {right}" if right else "choose the VAE the model was made with"


def _inputs(graph: Mapping, node_id: object) -> Mapping:
    node = graph.get(node_id) if isinstance(node_id, str) else None
    inputs = node.get("inputs") if isinstance(node, Mapping) else None
    return inputs if isinstance(inputs, Mapping) else {}


def _kind(graph: Mapping, node_id: object) -> object:
    node = graph.get(node_id) if isinstance(node_id, str) else None
    return node.get("class_type") if isinstance(node, Mapping) else None


def _linked(value: object) -> str | None:
    """The node that an input's value comes from; None for a value that is no link."""
    return value[0] if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) else None


def _source(graph: Mapping, node_id: object, name: str) -> str | None:
    return _linked(_inputs(graph, node_id).get(name))


def _origin(graph: Mapping, node_id: object, name: str) -> object:
    """Where the chain of inputs called `name` begins: LoRA nodes and the like hand on what they are given."""
    seen: set[object] = set()
    while node_id not in seen:
        seen.add(node_id)
        source = _source(graph, node_id, name)
        if source is None:
            return node_id
        node_id = source
    return None  # a circle


def _file_name(graph: Mapping, node_id: object, kind: str, name: str) -> str | None:
    value = _inputs(graph, node_id).get(name) if _kind(graph, node_id) == kind else None
    return value if isinstance(value, str) else None


def _depends(graph: Mapping, node_id: str, on: object) -> bool:
    """Whether the node uses, directly or through others, what the node `on` makes."""
    seen, waiting = set(), [node_id]
    while waiting:
        current = waiting.pop()
        if current == on:
            return True
        if current not in seen:
            seen.add(current)
            waiting += [source for value in _inputs(graph, current).values() if (source := _linked(value)) is not None]
    return False
