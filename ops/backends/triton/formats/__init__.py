"""The GGML types this backend has kernels for, one file each; a file that exports FUNCTION is found by its presence.

The layouts are described once, in `ops/formats/`; the files here say which byte and bits belong to a weight. `bits.py`
holds what several of them share.

How the bytes are read. Blocks of 18, 20, 22, 24, 34, 84, 110, 136, 144, 176 and 210 bytes start at addresses that are
multiples of 2, 4, 8 or 16 only, so rows cannot be fetched in 16-byte words and then cut. Instead the functions address
single bytes, neighbouring threads neighbouring ones, and Triton merges the loads of a thread as far as the block size
allows: 16 bytes at a time for Q4_K and Q5_K, 8 for IQ4_XS and Q5_1, 4 for Q2_K and Q4_1, 2 for the others. A warp still
touches whole 32-byte sectors once each, the second reader of a byte finds it in L1, and even with 2-byte loads fewer
than one load instruction per weight is issued.
"""

import importlib
import pkgutil

from ..block_function import BlockFunction


def _discover() -> dict[str, BlockFunction]:
    modules = (importlib.import_module(f".{info.name}", __name__) for info in pkgutil.iter_modules(__path__))
    functions = [module.FUNCTION for module in modules if hasattr(module, "FUNCTION")]
    return {found.name: found for found in functions}


FUNCTIONS: dict[str, BlockFunction] = _discover()
