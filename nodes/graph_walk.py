"""Reading a queued workflow's graph, the host's API form: {node id: {"class_type": name, "inputs": {name: value}}}.

A value that is a link is [node id, output slot]. Whatever is damaged or not understood reads as nothing.
"""

from collections.abc import Iterator, Mapping

# Where a latent or what conditions it may come from; none of these leads to another video's model.
LATENT_INPUTS = ("latent", "latent_image", "samples")
CONDITION_INPUTS = (*LATENT_INPUTS, "positive", "negative", "conditioning")


def inputs_of(graph: Mapping, node_id: object) -> Mapping:
    """The node's inputs by name."""
    node = graph.get(node_id) if isinstance(node_id, str) else None
    inputs = node.get("inputs") if isinstance(node, Mapping) else None
    return inputs if isinstance(inputs, Mapping) else {}


def kind_of(graph: Mapping, node_id: object) -> str | None:
    """The node's class_type."""
    node = graph.get(node_id) if isinstance(node_id, str) else None
    kind = node.get("class_type") if isinstance(node, Mapping) else None
    return kind if isinstance(kind, str) else None


def source_of(graph: Mapping, node_id: object, name: str) -> str | None:
    """The node that the input comes from, past the host's reroutes and switches; None for an input with no link."""
    return _past_reroutes(graph, _linked(inputs_of(graph, node_id).get(name)))


def chain(graph: Mapping, node_id: object, name: str) -> list[str]:
    """The node and those before it along inputs called `name`: LoRA nodes and the like hand on what they are given.

    The last one is where the chain begins; a circle gives an empty list.
    """
    found: list[str] = []
    while isinstance(node_id, str):
        if node_id in found:
            return []
        found.append(node_id)
        node_id = source_of(graph, node_id, name)
    return found


def origin(graph: Mapping, node_id: object, name: str) -> str | None:
    """Where the chain of inputs called `name` begins."""
    found = chain(graph, node_id, name)
    return found[-1] if found else None


def file_name(graph: Mapping, node_id: object, loaders: Mapping[str, str]) -> str | None:
    """The file chosen in the node if it is one of `loaders`, {class_type: input}; None if not, or if it is linked."""
    value = inputs_of(graph, node_id).get(loaders.get(kind_of(graph, node_id) or "", ""))
    return value if isinstance(value, str) else None


def samplers(graph: object) -> Iterator[str]:
    """The nodes that sample: ours, and all others that take a model and a latent."""
    if not isinstance(graph, Mapping):
        return
    for node_id in graph:
        if is_sampler(graph, node_id):
            yield node_id


def is_sampler(graph: Mapping, node_id: object) -> bool:
    """Whether the node takes a model and a latent."""
    has_latent = any(source_of(graph, node_id, name) for name in LATENT_INPUTS)
    return has_latent and source_of(graph, node_id, "model") is not None


def conditioned_by(graph: Mapping, sampler: str) -> list[str]:
    """The nodes that the sampler's latent and conditioning come from, back to other samplers."""
    found: list[str] = []
    seen, waiting = {sampler}, [sampler]
    while waiting:
        current = waiting.pop()
        for name in CONDITION_INPUTS:
            source = source_of(graph, current, name)
            if source is not None and source not in seen and not is_sampler(graph, source):
                seen.add(source)
                found.append(source)
                waiting.append(source)
    return found


def latent_source(graph: Mapping, node_id: object) -> str | None:
    """The sampler that the node's latent comes from, through nodes that hand latents on."""
    seen: set[object] = set()
    while node_id is not None and node_id not in seen:
        seen.add(node_id)
        sources = (source_of(graph, node_id, name) for name in LATENT_INPUTS)
        node_id = next((source for source in sources if source is not None), None)
        if is_sampler(graph, node_id):
            return node_id if isinstance(node_id, str) else None
    return None


def depends(graph: Mapping, node_id: str, on: object) -> bool:
    """Whether the node uses, directly or through others, what the node `on` makes."""
    seen, waiting = set(), [node_id]
    while waiting:
        current = waiting.pop()
        if current == on:
            return True
        if current not in seen:
            seen.add(current)
            waiting += [source for value in inputs_of(graph, current).values() if (source := _linked(value))]
    return False


def _linked(value: object) -> str | None:
    """The node that an input's value comes from; None for a value that is no link."""
    return value[0] if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) else None


def _past_reroutes(graph: Mapping, node_id: str | None) -> str | None:
    """The node behind reroutes, which have one input, and behind switches whose position is not linked."""
    seen: set[str] = set()
    while node_id is not None and node_id not in seen:
        seen.add(node_id)
        inputs, kind = inputs_of(graph, node_id), kind_of(graph, node_id)
        if kind == "Reroute":
            links = [source for value in inputs.values() if (source := _linked(value))]
            following = links[0] if len(links) == 1 else None
        elif kind in ("ComfySwitchNode", "ComfySoftSwitchNode") and isinstance(inputs.get("switch"), bool):
            following = _linked(inputs.get("on_true" if inputs["switch"] else "on_false"))
        else:
            return node_id
        if following is None:
            return node_id
        node_id = following
    return None
