"""The object the host asks for nodes: it registers the model folders, then finds every node of this folder.

A node module exports `NODES`, a list of `io.ComfyNode` classes; modules without it hold helpers.
"""

import importlib
import pkgutil

from comfy_api.latest import ComfyExtension, io

from ..host.paths import register_folders


def discover_nodes() -> list[type[io.ComfyNode]]:
    """Return the node classes of all modules beside this one, in alphabetical order of the modules."""
    package = __package__
    names = sorted(module.name for module in pkgutil.iter_modules(importlib.import_module(package).__path__))
    modules = [importlib.import_module(f"{package}.{name}") for name in names]
    return [node for module in modules for node in getattr(module, "NODES", [])]


class WanGGUFExtension(ComfyExtension):
    """Wan GGUF as the host's V3 extension."""

    async def on_load(self) -> None:
        """Register the folders; the nodes' file lists depend on them."""
        register_folders()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return all node classes of the pack."""
        return discover_nodes()
