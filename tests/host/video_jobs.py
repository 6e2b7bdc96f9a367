"""Jobs for Save Video: what is asked where a test says nothing else, and what is in a folder afterwards."""

from wan_gguf.host.video_request import Request
from wan_gguf.host.video_save import save_videos

TAGS = {"prompt": {"1": {"class_type": "X", "inputs": {}}}, "workflow": {"nodes": []}}
VAE_NAME = "narrow.safetensors"
ASKED = {"filename_prefix": "v", "codec": "h264", "crf": -1, "pixel_format": "auto", "fps": 0.0, "tiling": "auto"}


def save(vae, latent, tags=TAGS, **changes):
    return save_videos(vae, latent, Request(**{**ASKED, **changes}), tags, VAE_NAME)


def names(folder):
    return sorted(path.name for path in folder.iterdir())
