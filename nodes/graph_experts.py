"""The two models of one sampler: both must be known files to be compared (`loaders.experts`)."""

from collections.abc import Iterator, Mapping

from ..loaders.experts import refuse_experts
from ..loaders.wan_names import expert_of, twin_name
from .graph_files import Headers, chosen_model
from .graph_walk import chain, depends, inputs_of, kind_of, samplers, source_of


def expert_pairs(graph: object, node_id: object) -> Iterator[tuple[str, str]]:
    """(model, low_noise_model) of each sampler with both that depends on the node, where both are known."""
    for sampler in samplers(graph):
        names = tuple(chosen_model(graph, sampler, slot) for slot in ("model", "low_noise_model"))
        if None not in names and depends(graph, sampler, node_id):
            yield names


def expert_problems(graph: object, node_id: object, headers: Headers) -> Iterator[str]:
    """Why pairs of experts cannot be."""
    for high_name, low_name in dict.fromkeys(expert_pairs(graph, node_id)):
        high, low = headers.model(high_name), headers.model(low_name)
        if high is not None and low is not None:
            problem = refuse_experts(high, high_name, low, low_name)
            if problem:
                yield problem


def expert_hints(graph: object, node_id: object, headers: Headers) -> Iterator[str]:
    """What is allowed but seldom meant: one expert alone in our sampler, a LoRA of the other expert."""
    for sampler in samplers(graph):
        if not depends(graph, sampler, node_id):
            continue
        if source_of(graph, sampler, "low_noise_model") is None:
            yield from _alone(graph, sampler, headers)
        else:
            yield from _lora_hints(graph, sampler)


def _alone(graph: Mapping, sampler: str, headers: Headers) -> Iterator[str]:
    name = chosen_model(graph, sampler, "model")
    said = None if name is None else expert_of(name)
    model = headers.model(name) if said else None
    if kind_of(graph, sampler) == "WanGGUFSampler" and model is not None:
        other = "low" if said == "high" else "high"
        yield (
            f"'{name}' is the {said}-noise expert by its name and samples all steps alone; the other one is "
            f"{twin_name(name, model.config, other)}, the sampler's input low_noise_model is for the low-noise expert"
        )


def _lora_hints(graph: Mapping, sampler: str) -> Iterator[str]:
    for slot, other in (("model", "low"), ("low_noise_model", "high")):
        for node_id in chain(graph, source_of(graph, sampler, slot), "model"):
            lora = inputs_of(graph, node_id).get("lora_name")
            if isinstance(lora, str) and expert_of(lora) == other:
                yield f"the LoRA '{lora}' is for the {other}-noise expert by its name and is used on the input {slot}"
