"""What runs on the nodes of a Ray cluster: one actor, which owns one ComfyUI.

Ray sends this file's class by value, so it stands alone: the pack is imported from `root`, the clone's folder, which is
the same on every node.
"""

import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any


def _pack(root: str) -> ModuleType:
    """The pack under its import name, as cli/__main__.py does it; once in a process."""
    if "wan_gguf" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "wan_gguf", os.path.join(root, "__init__.py"), submodule_search_locations=[root]
        )
        if spec is None or spec.loader is None:
            raise RuntimeError(f"{root} is not the pack; it has to be at the same place on every node")
        module = importlib.util.module_from_spec(spec)
        sys.modules["wan_gguf"] = module
        spec.loader.exec_module(module)
    return sys.modules["wan_gguf"]


class Worker:
    """An actor: jobs one after the other on a ComfyUI of its own, which is started again when it has died."""

    def __init__(self, root: str, host_dir: str, models: str | None, input_folder: str | None):
        _pack(root)
        self._parts = importlib.import_module("wan_gguf.cli.batch_ray_parts")
        self._server = self._parts.NodeServer(host_dir, models, input_folder)

    def ready(self, class_types: list[str]) -> list[str]:
        """The node classes that are missing here; the server runs after this."""
        return self._server.missing(class_types)

    def run(self, posted: dict) -> dict[str, Any]:
        """Run a workflow: {"made": fields of batch_single.Made, "facts", "models"}, or {"refused"}, or {"gone"}."""
        return self._server.run(posted)
