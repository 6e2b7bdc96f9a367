"""Wan GGUF VAE Decode: a video latent becomes frames."""

from comfy_api.latest import io

from ..host.vae import decode_latent
from .category import CATEGORY
from .graph import refuse_wrong_files


class WanGGUFVAEDecode(io.ComfyNode):
    """Schema and calls only; the work is in `host.vae`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanGGUFVAEDecode",
            display_name="Wan GGUF VAE Decode",
            category=CATEGORY,
            description="Decodes a video latent into frames. A VAE whose channels do not fit the latent is refused "
            "with a message that names the right one.",
            search_aliases=["vae decode", "decode latent", "VAE解码", "解码"],
            inputs=[
                io.Latent.Input(
                    "samples",
                    display_name="latent",
                    tooltip="The video latent, from 'Wan GGUF Sampler'.",
                ),
                io.Vae.Input(
                    "vae",
                    display_name="vae",
                    tooltip="The VAE the model was made with: Wan2.1 for A14B and all Wan2.1 models, Wan2.2 for "
                    "TI2V-5B.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "images",
                    display_name="images",
                    tooltip="The frames of the video in order, for 'Create Video' or 'Save Image'.",
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, samples: dict, vae) -> io.NodeOutput:
        refuse_wrong_files(cls.hidden)
        return io.NodeOutput(decode_latent(vae, samples))


NODES = [WanGGUFVAEDecode]
