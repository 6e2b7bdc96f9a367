"""The LoRAs between a model file and a sampler, compared with the model by both files' headers."""

from collections.abc import Iterator, Mapping

from ..host.lora import lora_path
from ..host.lora_fit import refuse_lora_for
from .graph_files import MODEL_SLOTS, Headers, chosen_model
from .graph_walk import chain, depends, inputs_of, kind_of, samplers, source_of

_LORA_NODES = ("WanGGUFLoraLoader", "LoraLoaderModelOnly", "LoraLoader")


def model_lora_pairs(graph: object, node_id: object) -> Iterator[tuple[str, str]]:
    """(model_name, lora_name) for each LoRA on a known model of a sampler that depends on the node."""
    for sampler in samplers(graph):
        if not depends(graph, sampler, node_id):
            continue
        for slot in MODEL_SLOTS:
            model_name = chosen_model(graph, sampler, slot)
            for node in chain(graph, source_of(graph, sampler, slot), "model") if model_name else []:
                lora_name = _lora(graph, node)
                if lora_name is not None:
                    yield model_name, lora_name


def lora_problems(graph: object, node_id: object, headers: Headers) -> Iterator[str]:
    """Why LoRAs do not fit the models they are put on."""
    for model_name, lora_name in dict.fromkeys(model_lora_pairs(graph, node_id)):
        model = headers.model(model_name)
        if model is None:
            continue
        try:
            problem = refuse_lora_for(lora_path(lora_name), model, model_name)
        except (OSError, ValueError):  # its own loader says what is wrong
            continue
        if problem:
            yield problem


def _lora(graph: Mapping, node_id: str) -> str | None:
    """The LoRA file that the node adds; the host's nodes leave it out at strength 0."""
    inputs, kind = inputs_of(graph, node_id), kind_of(graph, node_id)
    name = inputs.get("lora_name")
    if kind not in _LORA_NODES or not isinstance(name, str):
        return None
    return None if kind != _LORA_NODES[0] and inputs.get("strength_model") == 0 else name
