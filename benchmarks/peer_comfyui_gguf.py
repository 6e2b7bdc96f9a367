"""ComfyUI-GGUF's layers (city96) on the same packed bytes as ours, from a clone whose folder is given.

Its `ops.py` is used without its nodes: `GGMLTensor` holds packed bytes with their type and logical shape, `GGMLOps` is
what the host builds a model from. Its Linear decodes with torch on every call, then multiplies.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import gguf
import torch

from wan_gguf.benchmarks.models import WanModel
from wan_gguf.benchmarks.peer_diffusers import PLAIN, ggml_type, rows
from wan_gguf.benchmarks.shapes import Inputs, Shape
from wan_gguf.ops.dequantize import dequantize
from wan_gguf.ops.packed import PackedWeight


def load(folder: Path) -> ModuleType:
    """The module `ops` of a clone of ComfyUI-GGUF; its `__init__.py`, which registers nodes, is not run."""
    package = ModuleType("comfyui_gguf")
    package.__path__ = [str(folder)]
    sys.modules[package.__name__] = package
    return importlib.import_module("comfyui_gguf.ops")


def _tensor(ops: ModuleType, packed: PackedWeight, dtype: torch.dtype) -> torch.Tensor:
    """As its loader gives them out: packed bytes in rows; F32 and F16 as they are."""
    plain = packed.format.name in PLAIN
    data = dequantize(packed, dtype) if plain else rows(packed)
    kind = gguf.GGMLQuantizationType.F32 if plain else ggml_type(packed)
    return ops.GGMLTensor(data, tensor_type=kind, tensor_shape=torch.Size(packed.shape))


def linear(ops: ModuleType, packed: PackedWeight, bias: torch.Tensor | None, dtype: torch.dtype) -> torch.nn.Module:
    """Its Linear, which computes in its input's dtype."""
    n, k = packed.shape
    layer = ops.GGMLOps.Linear(k, n, bias=bias is not None, device="cpu", dtype=dtype)
    state = {"weight": _tensor(ops, packed, dtype)}
    layer.load_state_dict(state if bias is None else {**state, "bias": bias}, strict=False)
    return layer.requires_grad_(False)


def forward(
    ops: ModuleType, shape: Shape, tensors: Mapping[str, PackedWeight], dtype: torch.dtype
) -> Callable[[Inputs], torch.Tensor]:
    """(Inputs) -> output of the host's WanModel made of its layers, with the attention the host takes."""
    model = WanModel(**shape.config, dtype=dtype, device="cpu", operations=ops.GGMLOps()).eval()
    state = {name: _tensor(ops, packed, dtype) for name, packed in tensors.items()}
    model.load_state_dict(state, strict=False)
    model.requires_grad_(False)
    return lambda inputs: model(inputs.x, inputs.t, context=inputs.context, transformer_options={})
