"""The layers our models are built from: the host's, with Linear and Embedding that also hold packed weights.

A weight is in one of three states: a placeholder without memory (before load), packed (a QuantizedTensor over the
mapped file) or dense (the host made it so: small layers under dynamic VRAM, or a patch that no matmul can go beside).
Weights move through the host's own cast_bias_weight, so low VRAM and dynamic VRAM work as for any model.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import comfy.ops
import torch
import torch.nn.functional as F  # noqa: N812
from comfy.quant_ops import QuantizedTensor

from ..ops.dequantize import dequantize_rows
from ..ops.dispatch import MODES
from ..ops.linear import linear
from ..ops.packed import PackedWeight
from ..ops.row_scales import row_scales
from .layout import packed_of, quantized
from .side_path import SidePath, is_low_rank, side_path


class PackedWeightMixin:
    """Holding a packed weight: state dict, moving, and the two methods through which the host bakes patches."""

    packed: PackedWeight | None = None  # as in the file; survives every move of `weight`
    kept_side_path: SidePath | None = None  # of the patches it was last called with

    def hold(self, packed: PackedWeight, dtype: torch.dtype) -> None:
        """Take `packed` as the weight without copying it; `dtype` is what it shows to the host."""
        self.packed = packed
        self._parameters["weight"] = torch.nn.Parameter(quantized(packed, dtype), requires_grad=False)

    def release(self) -> None:
        """Give back what was made on the device that the weight has left."""
        self.kept_side_path = None

    def convert_weight(self, weight: torch.Tensor, inplace: bool = False, **kwargs: Any) -> torch.Tensor:
        """Called by the host before it patches a weight: the dense weight."""
        return weight.dequantize() if isinstance(weight, QuantizedTensor) else weight

    def set_weight(
        self,
        weight: torch.Tensor,
        inplace_update: bool = False,
        seed: int | None = None,
        return_weight: bool = False,
        **kwargs: Any,
    ) -> torch.Tensor | None:
        """Called by the host with a patched weight: it stays dense, the host keeps the packed one as its backup."""
        weight = weight.to(self.weight.dtype)
        if return_weight:
            return weight
        self.weight = torch.nn.Parameter(weight, requires_grad=False)
        return None

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        # detach() of a QuantizedTensor made outside inference mode raises inside it: packed weights go in as they are
        for name, param in self._parameters.items():
            if param is not None:
                as_is = keep_vars or isinstance(param, QuantizedTensor)
                destination[prefix + name] = param if as_is else param.detach()

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> torch.nn.Module:
        weight = self._parameters.get("weight")
        if not isinstance(weight, QuantizedTensor):
            return super()._apply(fn, recurse)
        self._parameters["weight"] = None  # torch's own loop would write through .data
        try:
            super()._apply(fn, recurse)
            moved = self._moved(weight, fn)
            if moved is not weight:
                weight, self.kept_side_path = moved, None
        finally:
            self._parameters["weight"] = weight
        return self

    def _moved(self, weight: QuantizedTensor, fn: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """The weight after fn. Back on the CPU it is the mapped file again, not a copy in anonymous memory."""
        source = self.packed.device if weight.is_meta else weight.device  # nothing can be copied out of "meta"
        target = fn(torch.empty(0, dtype=weight.dtype, device=source))
        if target.device == weight.device and target.dtype == weight.dtype:
            return weight
        if target.device == self.packed.device:
            moved = quantized(self.packed, target.dtype)
        else:
            moved = quantized(packed_of(weight).to(target.device), target.dtype)
        return torch.nn.Parameter(moved, requires_grad=False)

    def _cast_packed(self, x: torch.Tensor, bias_dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor | None, Any]:
        """The host's cast with the weight functions out of sight, because with them it would return a dense weight."""
        functions = self.weight_function
        if functions:
            self.weight_function = []
        try:
            return comfy.ops.cast_bias_weight(
                self, dtype=self.weight.dtype, device=x.device, bias_dtype=bias_dtype, offloadable=True
            )
        finally:
            if functions:  # else leave the host's class attribute in place
                self.weight_function = functions

    def _needs_dense(self) -> bool:
        """Whether the weight is dense or a patch on it needs it so."""
        return not (isinstance(self.weight, QuantizedTensor) and is_low_rank(self.weight_function))

    def _side_path(self, device: torch.device) -> SidePath | None:
        """The LoRAs to add beside the packed weight, if there are any; made anew when they are others."""
        functions, kept = self.weight_function, self.kept_side_path
        if not functions:
            if kept is not None:
                self.kept_side_path = None
            return None
        if kept is None or not kept.is_of(functions, device):
            self.kept_side_path = None  # frees its memory first
            self.kept_side_path = kept = side_path(functions, device)
        return kept


class PackedOperations(comfy.ops.manual_cast):
    """Pass this class as the host's `custom_operations`: the matmuls run in mode exact."""

    class Linear(PackedWeightMixin, comfy.ops.manual_cast.Linear):
        """y = x Wᵀ + b with a packed or dense W; computes in x.dtype."""

        mode = "exact"
        row_scale: torch.Tensor | None = None  # (n,) float32, found at the first call in mode int8 and kept

        def __init__(self, in_features: int, out_features: int, bias: bool = True, device=None, dtype=None):
            torch.nn.Module.__init__(self)  # torch.nn.Linear's would reserve memory for the dense weight
            self.in_features = in_features
            self.out_features = out_features
            weight = torch.empty(out_features, in_features, device="meta", dtype=dtype)
            self.weight = torch.nn.Parameter(weight, requires_grad=False)
            self.bias = (
                torch.nn.Parameter(torch.empty(out_features, device=device, dtype=dtype), requires_grad=False)
                if bias
                else None
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            comfy.ops.run_every_op()  # raises when the run was interrupted
            if self._needs_dense():
                return self.forward_comfy_cast_weights(x)
            beside = self._side_path(x.device)
            weight, bias, stream = self._cast_packed(x, x.dtype)
            if isinstance(weight, QuantizedTensor):
                y = linear(x, self._for_mode(packed_of(weight)), bias, self.mode)
            else:
                y = F.linear(x, weight.to(x.dtype), bias)
            comfy.ops.uncast_bias_weight(self, weight, bias, stream)
            return y if beside is None else beside.add_to(y, x)

        def release(self) -> None:
            super().release()
            if self.row_scale is not None:
                self.row_scale = self.row_scale.to(self.packed.device)

        def _for_mode(self, packed: PackedWeight) -> PackedWeight:
            if self.mode == "exact":
                return packed
            if self.row_scale is None:
                self.row_scale = row_scales(packed)
            self.row_scale = self.row_scale.to(packed.device)
            return replace(packed, row_scale=self.row_scale)

    class Conv3d(comfy.ops.manual_cast.Conv3d):
        """The patch embedding. On a CPU one video at a time: torch computes one and several with other code."""

        def _conv_forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            forward = super()._conv_forward
            if x.device.type != "cpu" or x.shape[0] == 1:
                return forward(x, *args, **kwargs)
            return torch.cat([forward(video, *args, **kwargs) for video in x.split(1)])

    class Embedding(PackedWeightMixin, comfy.ops.manual_cast.Embedding):
        """Rows of a packed or dense table. Packed rows are gathered where the table lies, so the table never moves."""

        def __init__(self, num_embeddings: int, embedding_dim: int, device=None, dtype=None, **kwargs: Any):
            super().__init__(num_embeddings, embedding_dim, device="meta", dtype=dtype, **kwargs)

        def forward(self, rows: torch.Tensor, out_dtype: torch.dtype | None = None) -> torch.Tensor:
            comfy.ops.run_every_op()
            if self._needs_dense():
                return self.forward_comfy_cast_weights(rows, out_dtype=out_dtype)
            beside = self._side_path(rows.device)
            values = dequantize_rows(packed_of(self.weight), rows, out_dtype or self.weight.dtype).to(rows.device)
            return values if beside is None else beside.add_to_rows(values, rows)


class Int8Operations(PackedOperations):
    """The same with matmuls in mode int8 (`ops.int8`)."""

    class Linear(PackedOperations.Linear):
        """y = x Wᵀ + b, weights and activations rounded to 8 bits on the way into the matmul."""

        mode = "int8"


def packed_operations(mode: str) -> type[PackedOperations]:
    """The operations class of a mode of ops.dispatch.MODES."""
    if mode not in MODES:
        raise ValueError(f"mode: got {mode!r}; {' or '.join(MODES)} is allowed")
    return Int8Operations if mode == "int8" else PackedOperations
