"""The host's WanModel, once with packed weights in our layers and once dense in the host's own, ready to be called.

Importing this puts the host on the import path, in its CPU mode. COMFYUI_DIR names it.
"""

import os
import sys
from collections.abc import Mapping

import torch

if os.environ["COMFYUI_DIR"] not in sys.path:
    sys.path.insert(0, os.environ["COMFYUI_DIR"])

from comfy.cli_args import args

args.cpu = True

import comfy.ops
from comfy.ldm.flux.layers import EmbedND
from comfy.ldm.wan.model import WanModel

from wan_gguf.benchmarks.shapes import Inputs, Shape
from wan_gguf.host.assign import assign_tensors
from wan_gguf.host.attention import steady_attention
from wan_gguf.host.operations import packed_operations
from wan_gguf.ops.packed import PackedWeight

__all__ = ["EmbedND", "WanModel", "native_forward", "native_model", "packed_forward", "packed_model"]


def native_model(shape: Shape, tensors: Mapping[str, PackedWeight], dtype: torch.dtype) -> WanModel:
    """Every weight dense in `dtype`, in the layers the host takes for its own files."""
    return _model(shape, tensors, dtype, comfy.ops.disable_weight_init)


def packed_model(shape: Shape, tensors: Mapping[str, PackedWeight], dtype: torch.dtype, mode: str) -> WanModel:
    """Matmul weights packed, as our loader makes it."""
    return _model(shape, tensors, dtype, packed_operations(mode))


def _model(shape: Shape, tensors: Mapping[str, PackedWeight], dtype: torch.dtype, layers: type) -> WanModel:
    model = WanModel(**shape.config, dtype=dtype, device="cpu", operations=layers).eval().requires_grad_(False)
    assign_tensors(model, tensors, "benchmark")
    return model


def native_forward(model: WanModel, inputs: Inputs) -> torch.Tensor:
    """One forward with the attention the host takes."""
    return model(inputs.x, inputs.t, context=inputs.context, transformer_options={})


def packed_forward(model: WanModel, inputs: Inputs) -> torch.Tensor:
    """One forward with the attention our sampler takes."""
    options, _ = steady_attention({})
    return model(inputs.x, inputs.t, context=inputs.context, transformer_options=dict(options))
