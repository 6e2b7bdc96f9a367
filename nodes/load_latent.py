"""Wan GGUF Load Latent: a latent that Save Video kept comes back, with the settings it was made with."""

from comfy_api.latest import io

from ..host.latent_file import check_latent_file, latent_path, list_latents, load_latent
from .category import CATEGORY


class WanGGUFLoadLatent(io.ComfyNode):
    """Schema and calls only; the work is in `host.latent_file`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanGGUFLoadLatent",
            display_name="Wan GGUF Load Latent",
            category=CATEGORY,
            description="Loads a video latent from the output or the input folder, with the settings, prompt and "
            "workflow it was made with. With 'Wan GGUF Save Video' behind it, a decode that failed, was stopped or was "
            "killed is finished without sampling again.",
            search_aliases=["load latent", "resume", "interrupted", "加载Latent", "继续解码"],
            inputs=[
                io.Combo.Input(
                    "latent_name",
                    options=list_latents(),
                    display_name="latent",
                    tooltip="A .latent file of the output or the input folder, the newest first; in brackets the "
                    "folder it is in.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "latent",
                    display_name="latent",
                    tooltip="The video latent, for 'Wan GGUF Save Video' or 'Wan GGUF VAE Decode'.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, latent_name: str | None = None) -> bool | str:
        if latent_name is None:  # linked: checked at execution
            return True
        try:
            check_latent_file(latent_path(latent_name))
        except (OSError, ValueError) as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, latent_name: str) -> tuple[int, int]:
        status = latent_path(latent_name).stat()
        return status.st_size, status.st_mtime_ns

    @classmethod
    def execute(cls, latent_name: str) -> io.NodeOutput:
        return io.NodeOutput(load_latent(latent_path(latent_name)))


NODES = [WanGGUFLoadLatent]
