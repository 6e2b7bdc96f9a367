"""Which file a MODEL of ours was loaded from."""

from pathlib import Path

from comfy.model_patcher import ModelPatcher

from .models import load_diffusion_model


def model_file(model: ModelPatcher) -> Path | None:
    """The GGUF file behind the model and its clones, LoRAs or not; None if another loader made it."""
    made_by = model.cached_patcher_init
    if made_by is None or made_by[0] is not load_diffusion_model:
        return None
    return Path(made_by[1][0])
