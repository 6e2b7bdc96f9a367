"""GGUF weights as the host's QuantizedTensor: `_qdata` holds the file's bytes, the params say how to read them.

    _qdata    (nbytes,) uint8, a view of the mapped file while the weight is on the CPU
    params    GGML type name, dtype the tensor claims to have, logical shape

A QuantizedTensor is what the host can move, pin and stage without looking inside. Our layers take the bytes back with
`packed_of` and call `ops.linear` themselves; the handler for aten.linear serves code that calls F.linear on the weight.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from comfy.quant_ops import QuantizedLayout, QuantizedTensor, register_layout_class, register_layout_op

from ..ops.dequantize import dequantize
from ..ops.formats import FORMATS
from ..ops.linear import linear
from ..ops.packed import PackedWeight

LAYOUT_NAME = "WanGGUFLayout"


@dataclass(frozen=True)
class GGUFParams:
    """What the host calls layout params. Field names beginning with `orig_` are the host's."""

    format_name: str
    orig_dtype: torch.dtype
    orig_shape: tuple[int, ...]

    def to_device(self, device: torch.device) -> "GGUFParams":
        """A copy; there is no tensor in here to move."""
        return self.clone()

    def clone(self) -> "GGUFParams":
        """A copy of its own: the host writes into params with copy_from although they are frozen."""
        return dataclasses.replace(self)

    def copy_from(self, src: "GGUFParams", non_blocking: bool = False) -> None:
        """Take over every field of `src`, as the host's own params do."""
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, getattr(src, field.name))


class GGUFLayout(QuantizedLayout):
    """The layout class behind LAYOUT_NAME. Packed weights are read only: nothing here quantises."""

    Params = GGUFParams

    @classmethod
    def quantize(cls, tensor: torch.Tensor, **kwargs: Any) -> tuple[torch.Tensor, GGUFParams]:
        raise NotImplementedError(
            "a GGUF weight cannot be packed again at run time; load the model dense to bake patches"
        )

    @classmethod
    def dequantize(cls, qdata: torch.Tensor, params: GGUFParams) -> torch.Tensor:
        return dequantize(_packed(qdata, params), params.orig_dtype)

    @classmethod
    def get_plain_tensors(cls, qtensor: QuantizedTensor) -> tuple[torch.Tensor, ...]:
        return (qtensor._qdata,)

    @classmethod
    def state_dict_tensors(cls, qdata: torch.Tensor, params: GGUFParams) -> dict[str, torch.Tensor]:
        """Saving writes real numbers, since safetensors has no GGML types."""
        return {"": cls.dequantize(qdata, params)}


def _packed(qdata: torch.Tensor, params: GGUFParams) -> PackedWeight:
    return PackedWeight(qdata, FORMATS[params.format_name], params.orig_shape)


def packed_of(weight: QuantizedTensor) -> PackedWeight:
    """The packed bytes of a weight that `quantized` made, wherever the host has moved them."""
    return _packed(weight._qdata, weight._params)


def quantized(packed: PackedWeight, dtype: torch.dtype) -> QuantizedTensor:
    """Wrap packed bytes without copying them; the tensor shows itself to the host as `packed.shape` of `dtype`."""
    return QuantizedTensor(packed.data, LAYOUT_NAME, GGUFParams(packed.format.name, dtype, tuple(packed.shape)))


def _linear(qt: Any, args: tuple, kwargs: dict) -> torch.Tensor:
    """aten.linear(x, weight, bias) with a packed weight; reached under inference mode only."""
    x, weight = args[:2]
    bias = args[2] if len(args) > 2 else kwargs.get("bias")
    if isinstance(x, QuantizedTensor):
        x = x.dequantize()
    if not isinstance(weight, QuantizedTensor):
        return torch.nn.functional.linear(x, weight, bias)
    return linear(x, packed_of(weight), bias)


def _to_device(qt: QuantizedTensor, args: tuple, kwargs: dict) -> QuantizedTensor:
    """aten.to.device(weight, device, dtype, non_blocking, copy), which the host (0.30.0) would answer densely."""
    _, device, dtype, non_blocking, copy = (*args, *(False, False)[len(args) - 3 :])[:5]
    packed = packed_of(qt)
    data = packed.data.to(device, non_blocking=non_blocking, copy=copy)
    return quantized(PackedWeight(data, packed.format, packed.shape), dtype)


register_layout_class(LAYOUT_NAME, GGUFLayout)
register_layout_op(torch.ops.aten.to.device, GGUFLayout)(_to_device)
register_layout_op(torch.ops.aten.linear.default, GGUFLayout)(_linear)
