"""The time of a forward by the parts of the model, measured with torch's profiler.

Parts are marked from outside: layers and norms as modules, attention and rope as the functions the host's model calls.
What is in no part (modulation, residual additions, casts) is what remains of the whole.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch
from torch.profiler import ProfilerActivity, record_function

from wan_gguf.benchmarks.models import EmbedND, WanModel
from wan_gguf.benchmarks.report import shares

MARK = "part: "
_MODULES = (
    ("linear", torch.nn.Linear),
    ("norm", (torch.nn.LayerNorm, torch.nn.RMSNorm)),
    ("gelu", torch.nn.GELU),
    ("patch embedding", torch.nn.Conv3d),
    ("rope table", EmbedND),
)
_FUNCTIONS = {"attention": "optimized_attention", "rope": "apply_rope1"}
TABLE_ROWS = 25


def profile(model: WanModel, forward: Callable[[], object]) -> str:
    """One call of `forward`, as two tables in one text."""
    activities = [ProfilerActivity.CPU]
    with _marked(model), torch.profiler.profile(activities=activities) as record, record_function(f"{MARK}whole"):
        forward()
    averages = record.key_averages()
    seconds = {e.key.removeprefix(MARK): e.cpu_time_total / 1e6 for e in averages if e.key.startswith(MARK)}
    return f"{averages.table(sort_by='self_cpu_time_total', row_limit=TABLE_ROWS)}\n{shares(seconds)}"


@contextmanager
def _marked(model: WanModel) -> Iterator[None]:
    """Every part reports to the profiler while this lasts."""
    space = "comfy.ldm.wan.model"
    wrapped = {name: _named(part, _current(space, name)) for part, name in _FUNCTIONS.items()}
    modules = [(module, _part_of(module)) for module in model.modules()]
    try:
        for module, part in modules:
            if part:
                module.forward = _named(part, module.forward)
        with ExitStack() as patched:
            for name, function in wrapped.items():
                patched.enter_context(patch(f"{space}.{name}", function))
            yield
    finally:
        for module, part in modules:
            if part:
                del module.forward  # the class's own again


def _current(module_name: str, name: str) -> Callable:
    module = __import__(module_name, fromlist=[name])
    return getattr(module, name)


def _part_of(module: torch.nn.Module) -> str | None:
    return next((part for part, classes in _MODULES if isinstance(module, classes)), None)


def _named(part: str, function: Callable) -> Callable:
    def call(*args: object, **kwargs: object) -> object:
        with record_function(MARK + part):
            return function(*args, **kwargs)

    return call
