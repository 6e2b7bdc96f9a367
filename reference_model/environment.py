"""Puts a script of this folder into the pack's environment, with the host in COMFYUI_DIR and the pack as `wan_gguf`.

Standard library only: it runs before anything else is there. Started from a Python that has torch, with COMFYUI_DIR
set, a script stays where it is.
"""

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def register_pack() -> None:
    """Make the folder above importable as `wan_gguf`, whatever its name is."""
    if "wan_gguf" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        "wan_gguf", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    sys.modules["wan_gguf"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["wan_gguf"])


def enter(script: str) -> None:
    """Return inside the environment; from outside, prepare it, run the script there and end with its exit code."""
    register_pack()
    if os.environ.get("COMFYUI_DIR") and importlib.util.find_spec("torch"):
        return
    from wan_gguf.cli.environment import is_active
    from wan_gguf.cli.preparation import prepare
    from wan_gguf.cli.process import hand_over

    ready = prepare(dev=False)
    os.environ["COMFYUI_DIR"] = str(ready.host)
    if not is_active():
        hand_over([ready.python, Path(script), *sys.argv[1:]])
