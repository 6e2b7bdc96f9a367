"""Whether a LoRA file fits a model file, from both headers: before anything is loaded."""

import re
from collections.abc import Mapping
from pathlib import Path

from ..loaders.describe import ModelFile
from ..loaders.lora_file import Parts
from ..loaders.lora_names import UP
from ..loaders.safetensors_header import SafetensorsEntry
from ..loaders.wan_config import wan_shapes
from ..loaders.wan_names import model_name, width_name
from .lora import nothing_fits, read_lora_file

_AS_WIDE_AS_THE_MODEL = re.compile(r"\.(?:self_attn|cross_attn)\.[qkvo]$|\.ffn\.2$")


def refuse_lora_for(path: Path, model: ModelFile, shown: str) -> str | None:
    """Why nothing in the LoRA can be used on that Wan file, or None; `shown` is the model's name in the message.

    Raises ValueError for a file that is no LoRA, OSError. What is outside of the blocks may differ: an I2V LoRA's patch
    embedding is left out on a T2V model, which the loader reports.
    """
    lora = read_lora_file(path)
    fitting, strangers = lora.in_model(wan_shapes(model.config))
    if not fitting:
        return nothing_fits(path.name, shown, strangers)
    width = _width(fitting, lora.entries)
    if width is None or width == model.config["dim"]:
        return None
    return (
        f"LoRA '{path.name}' is for a model of {width_name(width)}; the model '{shown}' is {model_name(model.config)}, "
        f"width {model.config['dim']}; choose a LoRA made for {model_name(model.config)}"
    )


def _width(modules: Mapping[str, Parts], entries: Mapping[str, SafetensorsEntry]) -> int | None:
    """Width of the model the LoRA was trained on; None where no layer tells."""
    for module, parts in modules.items():
        for part in (UP, "diff", "diff_b"):
            if part in parts and _AS_WIDE_AS_THE_MODEL.search(module) and entries[parts[part]].shape:
                return entries[parts[part]].shape[0]
    return None
