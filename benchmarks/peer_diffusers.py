"""diffusers' GGUF layers and transformer on the same packed bytes as ours.

They decode with torch, operation by operation, then multiply. They are driven directly, without a file: what is timed
is their arithmetic, not their loading.
"""

import importlib.util
from collections.abc import Callable, Mapping

import gguf
import torch

from wan_gguf.benchmarks.shapes import Inputs, Shape
from wan_gguf.ops.dequantize import dequantize
from wan_gguf.ops.packed import PackedWeight

PLAIN = ("F32", "F16", "BF16")


def rows(packed: PackedWeight) -> torch.Tensor:
    """(n, bytes of a row) uint8."""
    return packed.data.view(packed.shape[0], -1)


def ggml_type(packed: PackedWeight) -> gguf.GGMLQuantizationType:
    return gguf.GGMLQuantizationType[packed.format.name]


def is_installed() -> bool:
    """Whether the package is installed; `python3 cli test` installs it."""
    return importlib.util.find_spec("diffusers") is not None


def linear(packed: PackedWeight, bias: torch.Tensor | None, dtype: torch.dtype) -> torch.nn.Module:
    """A GGUFLinear that computes in `dtype`."""
    from diffusers.quantizers.gguf.utils import GGUFLinear, GGUFParameter

    n, k = packed.shape
    with torch.device("meta"):  # no memory for a dense weight
        layer = GGUFLinear(k, n, bias is not None, compute_dtype=dtype)
    layer.weight = GGUFParameter(rows(packed), quant_type=ggml_type(packed))
    if bias is not None:
        layer.bias = torch.nn.Parameter(bias, requires_grad=False)
    return layer


def forward(shape: Shape, tensors: Mapping[str, PackedWeight], dtype: torch.dtype) -> Callable[[Inputs], torch.Tensor]:
    """(Inputs) -> output of a WanTransformer3DModel, built as from_single_file with a GGUFQuantizationConfig does."""
    from diffusers import WanTransformer3DModel
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    model = _empty_model(WanTransformer3DModel, shape.config)
    for name, packed in convert_wan_transformer_to_diffusers(dict(tensors)).items():
        owner, _, attribute = name.rpartition(".")
        if packed.format.name in PLAIN:
            in_fp32 = any(part in name.split(".") for part in WanTransformer3DModel._keep_in_fp32_modules)
            value = dequantize(packed, torch.float32 if in_fp32 else dtype)
            model.get_submodule(owner)._parameters[attribute] = torch.nn.Parameter(value, requires_grad=False)
        else:
            bias = model.get_submodule(owner)._parameters["bias"]
            model.set_submodule(owner, linear(packed, bias, dtype))
    return lambda inputs: model(inputs.x, inputs.t, inputs.context, return_dict=False)[0]


def _empty_model(model_class: type, config: dict) -> torch.nn.Module:
    heads = config["num_heads"]
    with torch.device("meta"):
        model = model_class(
            num_attention_heads=heads,
            attention_head_dim=config["dim"] // heads,
            in_channels=config["in_dim"],
            out_channels=config["out_dim"],
            text_dim=config["text_dim"],
            freq_dim=config["freq_dim"],
            ffn_dim=config["ffn_dim"],
            num_layers=config["num_layers"],
        )
    model.rope = type(model.rope)(config["dim"] // heads, config["patch_size"], 1024)  # its table is not in the file
    return model.eval()
