"""Puts packed tensors into a model of the host's that was built from PackedOperations."""

from collections.abc import Iterable, Mapping

import torch

from ..ops.dequantize import dequantize
from ..ops.packed import PackedWeight
from .operations import PackedWeightMixin

LISTED_NAMES = 5


def assign_tensors(
    model: torch.nn.Module, tensors: Mapping[str, PackedWeight], source: str, dense_suffixes: tuple[str, ...] = ()
) -> None:
    """Give every parameter of `model` its tensor: matmul weights packed and uncopied, all others dense.

    Dense tensors take the dtype of the parameter they replace. Names ending in one of `dense_suffixes` are dense too.
    Raises ValueError, before anything is assigned, when names are missing or left over or a shape does not fit.
    """
    params = dict(model.named_parameters())
    _check(params, tensors, source)
    for name, packed in tensors.items():
        owner, _, attribute = name.rpartition(".")
        module = model.get_submodule(owner)
        dtype = params[name].dtype
        if isinstance(module, PackedWeightMixin) and attribute == "weight" and not name.endswith(dense_suffixes):
            module.hold(packed, dtype)
        else:
            module._parameters[attribute] = torch.nn.Parameter(dequantize(packed, dtype), requires_grad=False)


def _check(params: Mapping[str, torch.Tensor], tensors: Mapping[str, PackedWeight], source: str) -> None:
    missing = [name for name in params if name not in tensors]
    unexpected = [name for name in tensors if name not in params]
    wrong = [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(param.shape)}"
        for name, param in params.items()
        if name in tensors and tuple(tensors[name].shape) != tuple(param.shape)
    ]
    faults = [
        f"{len(names)} {what}: {_some(names)}"
        for names, what in (
            (missing, "tensors are missing"),
            (unexpected, "tensors are unexpected"),
            (wrong, "shapes do not fit"),
        )
        if names
    ]
    if faults:
        raise ValueError(
            f"{source}: the tensors do not fit the model ({'; '.join(faults)}); download or convert the file again, "
            "or report the file if it works elsewhere"
        )


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = len(names) - LISTED_NAMES
    return ", ".join(names[:LISTED_NAMES]) + (f" and {more} more" if more > 0 else "")
