"""Entry of `python3 cli`: gives the pack its import name `wan_gguf`, whatever its folder is called; runs the command.

Nothing here may need a new Python or a package: it is what tells an old Python's user what is wrong.
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036 (older ones do get here)
    sys.exit("error: Python 3.10 or newer is needed, this is %d.%d" % sys.version_info[:2])  # noqa: UP031

import importlib.util
import os
from types import ModuleType


def _load_pack(root: str) -> ModuleType:
    """Register the folder as `wan_gguf`, so that everything below can use relative imports."""
    spec = importlib.util.spec_from_file_location(
        "wan_gguf", os.path.join(root, "__init__.py"), submodule_search_locations=[root]
    )
    assert spec is not None and spec.loader is not None  # for the type checker: given a file name, both are there
    module = importlib.util.module_from_spec(spec)
    sys.modules["wan_gguf"] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    # Python put this folder first on sys.path; its modules are reached as wan_gguf.cli.* only
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    _load_pack(os.path.dirname(here))
    sys.exit(importlib.import_module("wan_gguf.cli.main").main(sys.argv[1:]))
