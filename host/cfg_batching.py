"""Evaluates the positive and the negative prompt together or one after the other, by setting.

The host batches them when its estimate of the memory needed, times 1.5, is below the free memory, so results depend
on what else is running. Its decision reads `model.memory_required`; here the model it sees answers with a constant.
"""

from collections.abc import Callable
from typing import Any

import comfy.samplers

# what the model claims to need: less than any free memory, or more
CFG_MODES = {"batched": -1.0, "split": float("inf")}


class _ClaimsMemory:
    """The host's model with another answer to memory_required."""

    def __init__(self, model: Any, memory_bytes: float):
        self._model = model
        self._memory_bytes = memory_bytes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def memory_required(self, *args: Any, **kwargs: Any) -> float:
        return self._memory_bytes


def cond_batch_function(cfg_mode: str) -> Callable[[dict], list]:
    """The function for the host's model option `sampler_calc_cond_batch_function`: args -> denoised of every cond."""
    memory_bytes = CFG_MODES[cfg_mode]

    def evaluate(args: dict) -> list:
        model = _ClaimsMemory(args["model"], memory_bytes)
        return comfy.samplers.calc_cond_batch(model, args["conds"], args["input"], args["sigma"], args["model_options"])

    return evaluate
