"""Tensor names in LoRA files for Wan, whoever wrote them, as (module of the host's model, part of the LoRA).

A name is prefix + module + part. The spellings, with a program that writes them:

    prefix   diffusion_model. (lightx2v, ComfyUI, ai-toolkit), transformer. (diffusers), lora_unet_ (kohya, musubi),
             lora_unet__ (Wan-Fun), lora_transformer_ (OneTrainer), lycoris_, base_model.model. (PEFT), pipe.dit. and
             none (DiffSynth)
    module   the official code's, diffusers', and both with underscores for dots
    part     lora_up and lora_down (kohya), lora_A and lora_B (PEFT; also lora_A.<adapter>), lora.up (diffusers), alpha,
             diff and diff_b (full differences of weight and bias), and those of LoKr, LoHa, OFT and DoRA
"""

import re
from collections.abc import Iterable

from .diffusers_names import diffusers_module

_PREFIX = re.compile(
    r"^(?:base_model\.model\.|model\.|diffusion_model\.|transformer\.|pipe\.|dit\.|unet\."
    r"|lora_unet_|lora_transformer_|lycoris_|_)+"
)
UP, DOWN = "lora_up.weight", "lora_down.weight"
_PAIR = re.compile(r"[._](?:lora_|lora\.|lora_linear_layer\.)(?P<side>up|down|A|B)(?:(?:\.[^.]+)?\.weight)?$")
_OTHER = re.compile(
    r"\.(?P<part>alpha|diff|diff_b|dora_scale|set_weight|w_norm|b_norm|reshape_weight|lora_mid\.weight"
    r"|(?:lokr|hada|oft)_\w+)$"
)
_SIDES = {"up": UP, "B": UP, "down": DOWN, "A": DOWN}


def split_name(name: str) -> tuple[str, str] | None:
    """ "transformer.blocks.0.attn1.to_q.lora_B.weight" -> ("blocks.0.attn1.to_q", "lora_up.weight"); else None."""
    found = _PAIR.search(name)
    part = _SIDES[found["side"]] if found else None
    if found is None:
        found = _OTHER.search(name)
        part = found["part"] if found else None
    if found is None or part is None:
        return None
    return _PREFIX.sub("", name[: found.start()]), part


def spellings(modules: Iterable[str]) -> dict[str, str]:
    """Every spelling of the official code's module names -> that name."""
    found = {}
    for module in modules:
        for spelling in (module, diffusers_module(module)):
            found[spelling] = found[spelling.replace(".", "_")] = module
    return found


# a piece of a name that only this family has -> the family; the first that occurs counts
_FAMILIES = (
    (("double_blocks", "single_transformer_blocks"), "a LoRA for Flux or Hunyuan video"),
    (("joint_blocks",), "a LoRA for Stable Diffusion 3"),
    (("transformer_blocks",), "a LoRA for another transformer, such as LTX, Qwen-Image or CogVideoX"),
    (("down_blocks", "up_blocks", "input_blocks", "output_blocks"), "a LoRA for Stable Diffusion or SDXL"),
    (("lora_te", "text_encoder", "text_model"), "a LoRA for a text encoder only"),
    (("layers",), "a LoRA for a language model, Lumina or Z-Image"),
    (("blocks",), "a LoRA for a transformer of blocks, but for other modules than this model has"),
)


def family(names: Iterable[str]) -> str:
    """What a LoRA file none of whose names fits seems to be, in words that follow "it looks like"."""
    names = list(names)
    for pieces, words in _FAMILIES:
        if any(piece in name for name in names for piece in pieces):
            return words
    return "a LoRA for another kind of model"
