"""How a block of each type becomes float32 vectors; a file here that defines `decode` is found by its name.

`decode(block)` emits the instructions for one block: vectors of 16 float32 in the order of the weights, with the same
float operations in the same order as the format's own `decode` in `ops.formats`, so the bits are the same. Types
without blocks say in ELEMS how many numbers they take at a time.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

from ....formats import FORMATS
from ..vectors import Pointer, Vector


@dataclass(frozen=True)
class Decoder:
    """`emit` turns `bytes` at an address into vectors of 16 float32, `elems` numbers in all."""

    elems: int
    bytes: int
    emit: Callable[[Pointer], list[Vector]]


def _discover() -> dict[str, Decoder]:
    found = {}
    for info in pkgutil.iter_modules(__path__):
        module, name = importlib.import_module(f".{info.name}", __name__), info.name.upper()
        if hasattr(module, "decode"):
            elems = getattr(module, "ELEMS", FORMATS[name].block_elems)
            found[name] = Decoder(elems, FORMATS[name].row_bytes(elems), module.decode)
    return found


DECODERS: dict[str, Decoder] = _discover()  # by GGML's name
