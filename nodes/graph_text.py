"""The text encoder belongs to the model: UMT5 of the width that the model's file takes, loaded as Wan's."""

from collections.abc import Iterator, Mapping

from ..host.paths import REFERENCE_FOLDER
from ..loaders.describe import ModelFile
from ..loaders.wan_names import model_name as published_name
from .graph_files import ENCODER_LOADERS, MODEL_SLOTS, Headers, chosen_model, title
from .graph_walk import conditioned_by, depends, file_name, inputs_of, kind_of, origin, samplers, source_of
from .model_files import UMT5_FILES

_HOST_LOADERS = ("CLIPLoader", "CLIPLoaderGGUF")  # they have a type, which must be wan
_SEVERAL = ("DualCLIPLoader", "TripleCLIPLoader", "QuadrupleCLIPLoader")  # and with GGUF at the end
_OFFICIAL_WIDTH = 4096


def text_problems(graph: object, node_id: object, headers: Headers) -> Iterator[str]:
    """Why text encoders of videos that depend on the node, or of our prompt nodes among them, do not fit."""
    if not isinstance(graph, Mapping):
        return
    for loader, models in _encoders(graph, node_id, headers).items():
        problem = _refuse_type(graph, loader) or _refuse_file(graph, loader, models, headers)
        if problem:
            yield problem


def _encoders(graph: Mapping, node_id: object, headers: Headers) -> dict[str, dict[str, ModelFile]]:
    """Loader node of a text encoder that Wan is to read -> {name: model file} that read it; none if it is not known."""
    found: dict[str, dict[str, ModelFile]] = {}
    for user in graph:
        if kind_of(graph, user) == "WanGGUFPrompt" and depends(graph, user, node_id):
            _add(found, origin(graph, source_of(graph, user, "clip"), "clip"), {})
    for sampler in samplers(graph):
        names = [chosen_model(graph, sampler, slot) for slot in MODEL_SLOTS]
        models = {name: model for name in names if name and (model := headers.model(name)) is not None}
        if models and depends(graph, sampler, node_id):
            for user in conditioned_by(graph, sampler):
                _add(found, origin(graph, source_of(graph, user, "clip"), "clip"), models)
    return found


def _add(found: dict[str, dict[str, ModelFile]], loader: str | None, models: dict[str, ModelFile]) -> None:
    if loader is not None:
        found.setdefault(loader, {}).update(models)


def _refuse_type(graph: Mapping, loader: str) -> str | None:
    kind = kind_of(graph, loader) or ""
    if kind.removesuffix("GGUF") in _SEVERAL:
        return (
            f"'{title(graph, loader)}' loads several text encoders, Wan takes one: UMT5-XXL; load {UMT5_FILES} with "
            "'Wan GGUF Text Encoder Loader'"
        )
    chosen = inputs_of(graph, loader).get("type")
    if kind in _HOST_LOADERS and isinstance(chosen, str) and chosen != "wan":
        return (
            f"'{title(graph, loader)}' loads the text encoder as type {chosen}; choose type wan there, with "
            f"{UMT5_FILES}, or use 'Wan GGUF Text Encoder Loader'"
        )
    return None


def _refuse_file(graph: Mapping, loader: str, models: Mapping[str, ModelFile], headers: Headers) -> str | None:
    name = file_name(graph, loader, ENCODER_LOADERS)
    encoder = None if name is None else headers.encoder(name)
    if encoder is None:
        return None
    if encoder.kind != "umt5":
        what = encoder.other[0] if encoder.other else None if encoder.problem else encoder.summary
        return f"'{name}' is {what}, not a UMT5 text encoder; choose {UMT5_FILES}" if what else None
    width = encoder.config["d_model"]
    for model_name, model in models.items():
        wanted = model.config["text_dim"]
        if width != wanted:
            return (
                f"the text encoder '{name}' is {width} wide, the model '{model_name}' ({published_name(model.config)}) "
                f"takes {wanted}; choose {_remedy(model)}"
            )
    return None


def _remedy(model: ModelFile) -> str:
    if model.config["text_dim"] == _OFFICIAL_WIDTH:
        return UMT5_FILES
    if model.path.parent == REFERENCE_FOLDER:
        return next((path.name for path in sorted(REFERENCE_FOLDER.glob("wan_reference_umt5*.gguf"))), "its own")
    return "the text encoder the model was made with"
