"""The model files that a graph's loaders choose, and what their headers say."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

from ..host.paths import model_path, vae_path
from ..loaders.describe import ModelFile, describe
from .graph_walk import file_name, kind_of, origin, source_of

# class_type -> the input that names the file; ours, the host's, and ComfyUI-GGUF's
MODEL_LOADERS = {
    "WanGGUFModelLoader": "model_name",
    "UnetLoaderGGUF": "unet_name",
    "UnetLoaderGGUFAdvanced": "unet_name",
}
ENCODER_LOADERS = {
    "WanGGUFTextEncoderLoader": "encoder_name",
    "CLIPLoader": "clip_name",
    "CLIPLoaderGGUF": "clip_name",
}
VAE_LOADERS = {"VAELoader": "vae_name"}
MODEL_SLOTS = ("model", "low_noise_model")  # of a sampler


class Headers:
    """What files are; what cannot be found gives None: its own loader says why."""

    def model(self, name: str) -> ModelFile | None:
        """A usable Wan model."""
        found = self._described(lambda: model_path("unet_gguf", name))
        return found if found is not None and found.kind == "wan" and not found.problem else None

    def encoder(self, name: str) -> ModelFile | None:
        """Any file of the text encoders' folder."""
        return self._described(lambda: model_path("clip_gguf", name))

    def vae(self, name: str) -> ModelFile | None:
        """Any file of the VAEs' folder."""
        return self._described(lambda: vae_path(name))

    @staticmethod
    def _described(find: Callable[[], Path | None]) -> ModelFile | None:
        try:
            path = find()
            if path is None:
                return None
            status = path.stat()
            return describe_version(path, status.st_size, status.st_mtime_ns)
        except (OSError, ValueError):
            return None


@functools.lru_cache(maxsize=64)
def describe_version(path: Path, size: int, changed_ns: int) -> ModelFile:
    """`describe`, remembered: several nodes of a run ask for the same files, and a UMT5 header takes 0.2 s to read."""
    return describe(path)


def chosen_model(graph: Mapping, sampler: str, slot: str) -> str | None:
    """The file name of the model that reaches the sampler's input, where a known loader names it."""
    return file_name(graph, origin(graph, source_of(graph, sampler, slot), "model"), MODEL_LOADERS)


def chosen_vae(graph: Mapping, user: str) -> str | None:
    """The file name of the VAE that reaches the node."""
    return file_name(graph, origin(graph, source_of(graph, user, "vae"), "vae"), VAE_LOADERS)


def title(graph: Mapping, node_id: object) -> str:
    """The node in words for a message: its title in the workflow, else its kind."""
    node = graph.get(node_id) if isinstance(node_id, str) else None
    meta = node.get("_meta") if isinstance(node, Mapping) else None
    shown = meta.get("title") if isinstance(meta, Mapping) else None
    return shown if isinstance(shown, str) and shown else str(kind_of(graph, node_id))
