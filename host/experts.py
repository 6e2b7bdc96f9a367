"""The two experts of Wan2.2 A14B in one run: do they fit together, and how memory passes from one to the other.

Each expert runs in a guider of its own, one after the other, so the host prepares conditioning, hooks, LoRAs and memory
for each as for any model, and cleans up after each, also when a run is interrupted. The solver goes on where it was.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from comfy.samplers import CFGGuider

from ..loaders.read_ahead import ReadAhead
from .model_file import model_file
from .vae import describe_channels

SINGLE_CHANNELS = 48  # TI2V-5B, the only Wan2.2 model with this latent, has no experts


@dataclass(frozen=True)
class Expert:
    """A model ready to run until `stop` steps are done in all; `name` is None for a model on its own."""

    name: str | None
    model: ModelPatcher
    guider: CFGGuider
    attention: str
    stop: int

    @property
    def patcher(self) -> ModelPatcher:
        """What the guider loads: a clone of `model`, or its copy without dynamic VRAM where conditioning has hooks."""
        return self.guider.model_patcher


def transformer_config(model: ModelPatcher) -> dict:
    """The arguments of the model's transformer: in_dim, dim, and so on."""
    return model.model.model_config.unet_config


def takes_image(model: ModelPatcher) -> bool:
    """Whether the model's input has channels for an image beside the latent's."""
    config = transformer_config(model)
    return config.get("in_dim", 0) > config.get("out_dim", 0)


def check_pair(high: ModelPatcher, low: ModelPatcher) -> None:
    """Raise ValueError unless both models can take part in one run."""
    channels = [model.get_model_object("latent_format").latent_channels for model in (high, low)]
    if SINGLE_CHANNELS in channels:
        name = "model" if channels[0] == SINGLE_CHANNELS else "low_noise_model"
        raise ValueError(
            f"{name}: the model connected is TI2V-5B ({SINGLE_CHANNELS} channels), which has no experts; disconnect "
            "low_noise_model, or connect the two experts of one A14B model"
        )
    if channels[0] != channels[1]:
        raise ValueError(
            f"low_noise_model samples {describe_channels(channels[1])}, model {describe_channels(channels[0])}; "
            "connect the two experts of one A14B model"
        )
    inputs = [transformer_config(model).get("in_dim") for model in (high, low)]
    if inputs[0] != inputs[1]:
        raise ValueError(
            f"low_noise_model takes {inputs[1]} input channels, model takes {inputs[0]} (16: T2V-A14B, 36: I2V-A14B); "
            "connect the two experts of one model"
        )


def with_steps(experts: list[Expert]) -> list[Expert | None]:
    """None in place of an expert without steps: a boundary at either end of the schedule leaves one of them none."""
    starts = [0, *(expert.stop for expert in experts)]
    for expert, start in zip(experts, starts, strict=False):
        if expert.stop == start:
            logging.warning("%s has no steps and is not used; change boundary, shift or steps", expert.name)
    return [expert if expert.stop > start else None for expert, start in zip(experts, starts, strict=False)]


def hand_over(leaving: ModelPatcher, entering: ModelPatcher, latent_shape: Sequence[int]) -> None:
    """Take `leaving` off its device, unless there is room for both; afterwards the host loads `entering`.

    Only the time of later runs depends on it: with room for both, the next run finds its first expert loaded.
    """
    if entering.is_clone(leaving):
        return  # one set of weights with other LoRAs, which the host exchanges
    if _needed_bytes(entering, latent_shape) <= comfy.model_management.get_free_memory(entering.load_device):
        logging.info("experts: both fit on %s, the first one stays", entering.load_device)
        return
    comfy.model_management.unload_model_and_clones(leaving, all_devices=True)


def read_ahead(leaving: ModelPatcher, entering: ModelPatcher) -> ReadAhead | None:
    """The reading of the file of `entering` into the system's cache, if free RAM has room for it.

    The pages of `leaving` count as free where it computes from its mapped file; they must stay, so there has to be room
    for both.
    """
    path = model_file(entering)
    if path is None or entering.is_clone(leaving):
        return None
    free_bytes = comfy.model_management.get_free_memory(torch.device("cpu"))
    return ReadAhead(path) if leaving.model_size() + entering.model_size() <= free_bytes else None


def _needed_bytes(model: ModelPatcher, latent_shape: Sequence[int]) -> float:
    """What the host will want to have free before it loads the model whole (comfy.model_management.load_models_gpu)."""
    management = comfy.model_management
    activations = model.model.memory_required([2 * latent_shape[0], *latent_shape[1:]])
    reserve = max(management.minimum_inference_memory(), activations + management.extra_reserved_memory())
    return 1.1 * (model.model_size() - model.loaded_size()) + reserve
