"""Gives stored tensors their logical shapes, and checks that a file holds the tensors its model needs."""

import math

import numpy as np
import torch

from ..ops.dequantize import dequantize
from ..ops.formats import FORMATS
from ..ops.packed import PackedWeight
from .gguf import GGUFFile
from .identify import Shapes, WrongModelError


def recorded_shapes(file: GGUFFile) -> Shapes:
    """{stored name: shape}: what a converter that cut the rows anew recorded, else what stands in the tensor table.

    The key is `comfy.gguf.orig_shape.NAME`. One that counts another number of elements says nothing about the tensor:
    some converters record the shape of the bytes.
    """
    shapes = {}
    for name, info in file.tensors.items():
        shapes[name] = info.shape
        recorded = file.metadata.get(f"comfy.gguf.orig_shape.{name}")
        if isinstance(recorded, np.ndarray) and recorded.dtype.kind in "iu":
            original = tuple(int(size) for size in recorded[:8])
            if math.prod(original) == math.prod(info.shape):
                shapes[name] = original
    return shapes


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def fits(stored: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    """True when `stored` is `expected` after a tool dropped or added dimensions of one, or folded a convolution.

    A convolution (rank above 3) may be folded in any way that keeps the number of elements; a matrix may not, or a
    transposed one would pass.
    """
    if math.prod(stored) != math.prod(expected):
        return False
    return len(expected) > 3 or _without_ones(stored) == _without_ones(expected)


def restore(packed: PackedWeight, expected: tuple[int, ...]) -> PackedWeight:
    """The weight under its logical shape; both must `fit`. Where blocks would straddle rows it is decoded to F32."""
    if packed.shape == expected:
        return packed
    try:
        return packed.reshape(expected)
    except ValueError:  # a folded convolution in a block type: small, and never a matmul weight
        values = dequantize(packed).view(-1)
        return PackedWeight(values.view(torch.uint8), FORMATS["F32"], expected)


def check_tensors(stored: Shapes, expected: Shapes, model: str, file_name: str) -> None:
    """Raise WrongModelError unless `stored` has exactly the tensors of `expected`, in shapes that fit."""
    missing = [name for name in expected if name not in stored]
    if missing:
        raise WrongModelError(
            f"{file_name}: {len(missing)} of {len(expected)} tensors of a {model} are missing (first: {missing[0]}); "
            "the file is incomplete: download it again"
        )
    extra = [name for name in stored if name not in expected]
    if extra:
        raise WrongModelError(
            f"{file_name}: {len(extra)} tensors do not belong to a {model} (first: {', '.join(extra[:3])}); "
            "this variant is not supported"
        )
    for name, shape in expected.items():
        if not fits(stored[name], shape):
            raise WrongModelError(
                f"{file_name}: tensor {name} has shape {stored[name]}; {shape} fits the rest of this {model}; "
                "the file is damaged or of another variant"
            )
