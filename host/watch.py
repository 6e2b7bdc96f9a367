"""Stops a run whose latents are NaN, infinite or empty, and says where it began and what the likely causes are.

As long as all is well this is one sum per step. Only after a failure the step is computed once more with a hook on
every layer, to find the first one whose output is not finite while what went in was, and that layer's weights are read.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import torch

from ..ops.dequantize import dequantize
from .models import ATTACHMENT
from .operations import PackedWeightMixin
from .patches import PackedPatch

# Standard deviation over time and space of the channel that varies most, in units of the model's own latents, whose
# channels have about 1. Reference model: sampled 1.2 to 1.4, black backgrounds included; its VAE's latents of plain
# black, grey and white video 0.16 to 0.73 at 64 x 64 pixels, 0.19 at 128 x 128. That is the border, whose share falls:
# at 1280 x 704 a quarter would be left. A latent that the model did not fill has 0, also when it was rounded.
MIN_STD = 0.001
MIN_POSITIONS = 16  # latent pixels in a video; the spread of fewer says nothing
_ROWS_ELEMS = 1 << 24  # of a weight decoded at a time, 64 MiB in float32


UNKNOWN, LAYER, INPUTS, AFTER, GONE = "unknown", "layer", "inputs", "after the model", "gone"


@dataclass(frozen=True)
class Diagnosis:
    """Where the values went wrong when the step was computed again: one of the words above; with LAYER, in which."""

    where: str = UNKNOWN
    layer: str = ""
    module: torch.nn.Module | None = None


def check_denoised(
    denoised: torch.Tensor,
    step: int,
    steps: int,
    model: Any,
    x: torch.Tensor,
    again: Callable[[], torch.Tensor] | None = None,
) -> None:
    """Raise RuntimeError if `denoised`, what the model made of `x` in that step (from 1), has NaN or infinite values.

    `model` is the ModelPatcher that computed it; `again` repeats the evaluation, which finds the layer. Interrupts work
    while it searches.
    """
    if is_finite(denoised):
        return
    found = f"sampling step {step} of {steps}: the model gave NaN or infinite values ({_share(denoised)})"
    if not is_finite(x):
        raise RuntimeError(
            f"{found}; the latent that went into the step has them already ({_share(x)}): check the latent connected "
            "and its noise mask, or take another solver"
        )
    diagnosis = Diagnosis() if again is None else first_bad_layer(model.model.diffusion_model, again)
    raise RuntimeError(f"{found}{_where(diagnosis)}. {_causes(model, diagnosis)}")


def check_final(samples: torch.Tensor, model: Any) -> None:
    """Raise RuntimeError if a finished latent (B, C, T, H, W), as the VAE takes it, is not finite or has no content."""
    if not is_finite(samples):
        raise RuntimeError(f"the sampled latent has NaN or infinite values ({_share(samples)}). {_causes(model)}")
    if samples.ndim != 5 or samples[0, 0].numel() < MIN_POSITIONS:
        return
    own = model.get_model_object("latent_format").process_in(samples.float())
    spread = own.std(dim=(2, 3, 4)).amax(dim=1)  # (B,)
    if (spread < MIN_STD).any():
        raise RuntimeError(
            f"the sampled latent is the same everywhere (largest standard deviation of a channel {spread.min():.2g}, "
            f"usual is about 1): it would decode to a black or plain video. {_causes(model)}"
        )


def is_finite(values: torch.Tensor) -> bool:
    """Whether no value is NaN or infinite. One would make the sum so; all are looked at only where the sum is."""
    return bool(torch.isfinite(values.sum(dtype=torch.float32))) or bool(torch.isfinite(values).all())


def first_bad_layer(root: torch.nn.Module, again: Callable[[], torch.Tensor]) -> Diagnosis:
    """The first module inside `root` that turns finite inputs into others while `again` runs; the innermost such."""
    names = {module: name for name, module in root.named_modules()}
    clean_inputs: dict[torch.nn.Module, bool] = {}

    def before(module: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        clean_inputs[module] = _all_finite((args, kwargs))

    def after(module: torch.nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        if clean_inputs.get(module, False) and not _all_finite(output):
            raise _FoundError(module)

    with contextlib.ExitStack() as hooks:
        for module in names:
            for handle in (
                module.register_forward_pre_hook(before, with_kwargs=True),
                module.register_forward_hook(after, with_kwargs=True),
            ):
                hooks.callback(handle.remove)
        try:
            finite = is_finite(again())
        except _FoundError as found:
            return Diagnosis(LAYER, names[found.module] or type(found.module).__name__, found.module)
    if finite:
        return Diagnosis(GONE)
    if root not in clean_inputs:  # a compiled model does not call its hooks
        return Diagnosis()
    return Diagnosis(AFTER if clean_inputs[root] else INPUTS)


def bad_tensor(root: torch.nn.Module, prefix: str = "") -> str | None:
    """The name of the first weight inside `root`, or the LoRA on it, that holds NaN or infinite values."""
    for name, module in root.named_modules(prefix=prefix):
        for attribute, param in module.named_parameters(recurse=False):
            shown = f"{name}.{attribute}" if name else attribute
            packed = getattr(module, "packed", None) if attribute == "weight" else None
            if isinstance(module, PackedWeightMixin) and packed is not None:
                if not all(is_finite(values) for values in _decoded(packed)):
                    return f"tensor {shown} ({packed.format.name})"
            elif not param.is_meta and not is_finite(param):
                return f"tensor {shown}"
        for function in getattr(module, "weight_function", ()):
            pair = function.low_rank if isinstance(function, PackedPatch) else None
            if pair is not None and not (is_finite(pair.up) and is_finite(pair.down)):
                return f"the LoRA on {name}"
    return None


class _FoundError(Exception):
    """Ends the repeated evaluation."""

    def __init__(self, module: torch.nn.Module):
        super().__init__()
        self.module = module


def _decoded(packed: Any) -> Iterator[torch.Tensor]:
    """The weight's values by rows; between them an interrupt is noticed."""
    n, k = packed.shape
    rows = max(1, _ROWS_ELEMS // k)
    for start in range(0, n, rows):
        comfy.model_management.throw_exception_if_processing_interrupted()
        yield dequantize(packed.rows(start, min(start + rows, n)))


def _all_finite(values: Any) -> bool:
    if isinstance(values, torch.Tensor):
        return not values.is_floating_point() or is_finite(values)
    if isinstance(values, dict):
        return all(_all_finite(value) for value in values.values())
    return all(_all_finite(value) for value in values) if isinstance(values, list | tuple) else True


def _share(values: torch.Tensor) -> str:
    """ "12 of 4096 values, 0.3 %: 12 NaN"."""
    nan, infinite = int(values.isnan().sum()), int(values.isinf().sum())
    kinds = [f"{count} {word}" for count, word in ((nan, "NaN"), (infinite, "infinite")) if count]
    bad, total = nan + infinite, values.numel()
    return f"{bad} of {total} values, {100 * bad / total:.3g} %: {' and '.join(kinds)}"


def _where(diagnosis: Diagnosis) -> str:
    if diagnosis.module is None:
        return ""
    packed = getattr(diagnosis.module, "packed", None)
    kind = type(diagnosis.module).__name__ if packed is None else f"weight in {packed.format.name}"
    return f"; it began in the layer {diagnosis.layer} ({kind})"


def _causes(model: Any, diagnosis: Diagnosis = Diagnosis()) -> str:
    """What probably is wrong and what to do, the surest first."""
    settings = model.attachments.get(ATTACHMENT, {})
    file = settings.get("model", "the model")
    if diagnosis.where == INPUTS:
        return "What goes into the model has them already: the encoded prompt or an image; make it again"
    if diagnosis.where == GONE:
        return (
            "The same step computed again is finite: the device is unstable (too hot, overclocked), or a node that "
            "changes the guidance does so at random; run again"
        )
    if diagnosis.where == AFTER:
        return "Every layer's output is finite: it is the guidance, a cfg that is too high or a node that changes it"
    damaged = bad_tensor(diagnosis.module or model.model.diffusion_model, diagnosis.layer)
    if damaged is not None:
        remedy = "use another LoRA file" if damaged.startswith("the LoRA") else f"{file} is damaged, download it again"
        return f"The cause: {damaged} holds NaN or infinite values; {remedy}"
    return f"Likely causes: {'; '.join(_suspects(model, settings))}"


def _suspects(model: Any, settings: dict) -> list[str]:
    dtype = model.model.get_dtype_inference()
    found = []
    if dtype == torch.float16:
        found.append("dtype fp16, which ends at 65504, while Wan was trained in bf16: load the model with dtype bf16")
    elif dtype != torch.float32:
        found.append(f"{str(dtype).removeprefix('torch.')} arithmetic: load the model with dtype fp32 to compare")
    if settings.get("mode") == "int8":
        found.append("mode int8: try mode exact")
    loras = [f"{lora['file']} at strength {lora['strength']:g}" for lora in settings.get("loras", [])]
    if loras:
        found.append(f"a LoRA that is too strong or for another model: {', '.join(loras)}")
    elif model.weight_wrapper_patches or model.patches:
        found.append("a LoRA that is too strong or for another model")
    if "optimized_attention_override" in model.model_options.get("transformer_options", {}):
        found.append("the attention that another node chose")
    return [*found, "a cfg or a strength that is too high", "a node that changes the model or its guidance"]
