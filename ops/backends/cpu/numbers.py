"""The dtypes of activations and decoded weights: how each is loaded and stored. The arithmetic is always float32."""

from llvmlite import ir

from .vectors import FLOAT, HALF, I16, Pointer, Vector

SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}  # bytes, by torch's name
_STORED: dict[str, ir.Type] = {"float32": FLOAT, "bfloat16": I16, "float16": HALF}


def load_floats(source: Pointer, lanes: int, dtype: str) -> Vector:
    """`lanes` numbers of a dtype of SIZES as float32."""
    stored = source.load(_STORED[dtype], lanes)
    return stored if dtype == "float32" else stored.to_float() if dtype == "float16" else stored.bfloat_to_float()


def store_floats(target: Pointer, values: list[Vector], dtype: str) -> None:
    """Write float32 vectors one after the other as a dtype of SIZES, rounded half to even."""
    for index, value in enumerate(values):
        stored = value if dtype == "float32" else value.to_half() if dtype == "float16" else value.to_bfloat()
        target.at(index * value.lanes * SIZES[dtype]).store(stored)
