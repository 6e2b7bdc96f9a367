"""The VAE belongs to the model: every VAE that a video is encoded or decoded with is compared with its model's file."""

from collections.abc import Iterator, Mapping

from ..host.paths import REFERENCE_FOLDER, reference_vae
from ..host.vae import KNOWN_VAES, describe_channels
from ..loaders.describe import ModelFile
from ..loaders.wan_names import is_published_width
from .graph_files import MODEL_SLOTS, Headers, chosen_model, chosen_vae
from .graph_walk import conditioned_by, depends, latent_source, samplers, source_of

_WAN_21_WIDTH = 384  # features of the Wan 2.1 VAE's first decoder layer; the reference model's has fewer


def vae_problems(graph: object, node_id: object, headers: Headers) -> Iterator[str]:
    """Why VAEs of videos that depend on the node do not fit."""
    for model_name, vae_name in dict.fromkeys(model_vae_pairs(graph, node_id)):
        model, vae = headers.model(model_name), headers.vae(vae_name)
        if model is not None and vae is not None:
            problem = _refuse(model, model_name, vae, vae_name)
            if problem:
                yield problem


def model_vae_pairs(graph: object, node_id: object) -> Iterator[tuple[str, str]]:
    """(model_name, vae_name) for each known VAE that makes or decodes a sampler's latent, where that uses the node."""
    if not isinstance(graph, Mapping):
        return
    for sampler, user, end in _vae_users(graph):
        if not depends(graph, end, node_id):
            continue
        for slot in MODEL_SLOTS:
            model_name, vae_name = chosen_model(graph, sampler, slot), chosen_vae(graph, user)
            if model_name is not None and vae_name is not None:
                yield model_name, vae_name


def _vae_users(graph: Mapping) -> Iterator[tuple[str, str, str]]:
    """(sampler, the node that has the VAE, the later one of the two)."""
    for sampler in samplers(graph):
        for user in conditioned_by(graph, sampler):
            if source_of(graph, user, "vae") is not None:
                yield sampler, user, sampler
    for user in graph:
        if isinstance(user, str) and source_of(graph, user, "vae") is not None:
            sampler = latent_source(graph, user)
            if sampler is not None:
                yield sampler, user, user


def _refuse(model: ModelFile, model_name: str, vae: ModelFile, vae_name: str) -> str | None:
    remedy = f"{_remedy(model)} in 'Load VAE'"
    if vae.kind != "vae":
        what = vae.other[0] if vae.other else None if vae.problem else vae.summary
        return f"'{vae_name}', chosen as the VAE, is {what}; {remedy}" if what else None
    if model.latent_channels != vae.latent_channels:
        return (
            f"the VAE '{vae_name}' has {describe_channels(vae.latent_channels)}, the model '{model_name}' has "
            f"{describe_channels(model.latent_channels)}; {remedy}"
        )
    return _refuse_reference(model, model_name, vae, vae_name, remedy)


def _refuse_reference(model: ModelFile, model_name: str, vae: ModelFile, vae_name: str, remedy: str) -> str | None:
    """The reference model's latents have the channels of Wan 2.1 but mean something else."""
    if model.path.parent == REFERENCE_FOLDER and vae.config["width"] >= _WAN_21_WIDTH:
        return f"the VAE '{vae_name}' is Wan's, the model '{model_name}' is the reference model; {remedy}"
    if vae.path.parent == REFERENCE_FOLDER and is_published_width(model.config["dim"]):
        return f"the VAE '{vae_name}' is the reference model's, the model '{model_name}' is Wan's; {remedy}"
    return None


def _remedy(model: ModelFile) -> str:
    channels = model.latent_channels
    right = reference_vae(model.path) or (KNOWN_VAES[channels][1] if channels in KNOWN_VAES else None)
    return f"choose {right}" if right else "choose the VAE the model was made with"
