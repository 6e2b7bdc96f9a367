"""Every GGML tensor type this pack decodes, one file each; a file here that exports FORMAT is found by its presence.

`bits.py` holds what several of them share.
"""

import importlib
import pkgutil

from ..block_format import BlockFormat


def _discover() -> dict[str, BlockFormat]:
    modules = (importlib.import_module(f".{info.name}", __name__) for info in pkgutil.iter_modules(__path__))
    formats = [module.FORMAT for module in modules if hasattr(module, "FORMAT")]
    return {found.name: found for found in sorted(formats, key=lambda found: found.ggml_type)}


FORMATS: dict[str, BlockFormat] = _discover()
FORMATS_BY_ID: dict[int, BlockFormat] = {found.ggml_type: found for found in FORMATS.values()}
