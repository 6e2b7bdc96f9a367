"""Whether the tensors a file holds are those its model needs, by names and shapes."""

import math
from typing import TYPE_CHECKING

import numpy as np

from .gguf import GGUFHeader
from .identify import Shapes, WrongModelError

if TYPE_CHECKING:
    from .gguf import GGUFFile


def recorded_shapes(file: "GGUFHeader | GGUFFile") -> Shapes:
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
