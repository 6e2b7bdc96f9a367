"""What a sampler checks about its inputs before anything is loaded, in messages that say what to do."""

from collections.abc import Collection

import comfy.model_sampling
import torch
from comfy.model_patcher import ModelPatcher

from .model_file import model_file
from .paths import reference_vae
from .vae import KNOWN_VAES, describe_channels


def check_choice(name: str, value: str, allowed: Collection[str]) -> None:
    """Raise ValueError unless `value` is one of the allowed ones."""
    if value not in allowed:
        *others, last = allowed
        raise ValueError(f"{name}: got {value!r}; {', '.join(others)} or {last} is allowed")


def check_latent(model: ModelPatcher, samples: torch.Tensor) -> None:
    """Raise ValueError unless it is a video latent with the model's channels."""
    if samples.is_nested or samples.ndim != 5:
        shape = "a nested tensor" if samples.is_nested else f"shape {tuple(samples.shape)}"
        raise ValueError(
            f"latent: got {shape}; a video latent (batch, channels, frames, height, width) is needed; "
            "make it with 'Wan GGUF Empty Video Latent'"
        )
    channels, wanted = samples.shape[1], model.get_model_object("latent_format").latent_channels
    if channels != wanted:
        raise ValueError(
            f"latent has {describe_channels(channels)}, the model connected samples {describe_channels(wanted)}; "
            f"connect {_vae_of(model, wanted)} to the node that makes the latent"
        )


def check_text(model: ModelPatcher, **conditionings: list) -> None:
    """Raise ValueError unless the encoded prompts have the width that the model takes."""
    wanted = getattr(model.model.diffusion_model, "text_dim", None)
    for name, conditioning in conditionings.items():
        widths = {values.shape[-1] for values, _ in conditioning}
        if wanted is not None and widths - {wanted}:
            raise ValueError(
                f"{name}: the encoded prompt is {max(widths - {wanted})} wide, the model connected takes {wanted}; "
                "load the text encoder that belongs to the model"
            )


def with_shift(model: ModelPatcher, shift: float) -> ModelPatcher:
    """A clone whose percent-to-sigma map has our shift, so that conditioning for a part of the run hits that part.

    Raises ValueError for a model that is no flow model.
    """
    sampling = model.get_model_object("model_sampling")
    flow = comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST
    if not all(isinstance(sampling, kind) for kind in flow):
        raise ValueError(
            f"model: the model connected ({type(model.model).__name__}) is not a flow model; connect a Wan model"
        )
    shifted = type(sampling)(model.model.model_config)
    shifted.set_parameters(shift=shift, multiplier=sampling.multiplier)
    clone = model.clone()
    clone.add_object_patch("model_sampling", shifted)
    return clone


def _vae_of(model: ModelPatcher, channels: int) -> str:
    path = model_file(model)
    known = KNOWN_VAES[channels][1] if channels in KNOWN_VAES else "the VAE of this model"
    return known if path is None else reference_vae(path) or known
