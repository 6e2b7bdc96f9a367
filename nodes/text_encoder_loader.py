"""Wan GGUF Text Encoder Loader: the UMT5 text encoder from GGUF or safetensors as the host's CLIP."""

from comfy_api.latest import io

from ..host.paths import list_models, model_path
from ..host.text_encoder import open_text_encoder
from .category import CATEGORY
from .graph import refuse_wrong_vae
from .model_files import file_version, refuse_file

FOLDER_KEY = "clip_gguf"


class WanGGUFTextEncoderLoader(io.ComfyNode):
    """Schema and calls only; the work is in `host.text_encoder`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanGGUFTextEncoderLoader",
            display_name="Wan GGUF Text Encoder Loader",
            category=CATEGORY,
            description="Loads the UMT5 text encoder of Wan from a GGUF or safetensors file. The tokenizer is inside "
            "the file, so nothing else is needed. UMT5 reads English and Chinese. The file is loaded when a prompt "
            "has to be encoded, not before.",
            search_aliases=["clip loader gguf", "umt5 loader", "load clip", "加载CLIP", "文本编码器"],
            inputs=[
                io.Combo.Input(
                    "encoder_name",
                    options=list_models(FOLDER_KEY),
                    display_name="encoder name",
                    tooltip="A UMT5 text encoder (.gguf or .safetensors) from models/text_encoders or models/clip. "
                    "After adding a file, press R to refresh the list.",
                ),
            ],
            outputs=[
                io.Clip.Output(
                    "clip",
                    display_name="clip",
                    tooltip="The text encoder, for 'Wan GGUF Prompt' and for the host's text encode nodes.",
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, encoder_name: str | None = None) -> bool | str:
        if encoder_name is None:  # linked: known at execution only
            return True
        return refuse_file(FOLDER_KEY, encoder_name, "umt5") or True

    @classmethod
    def fingerprint_inputs(cls, encoder_name: str) -> tuple[int, int]:
        return file_version(FOLDER_KEY, encoder_name)

    @classmethod
    def execute(cls, encoder_name: str) -> io.NodeOutput:
        refuse_wrong_vae(cls.hidden)
        fault = refuse_file(FOLDER_KEY, encoder_name, "umt5")
        if fault:  # a linked name was not validated, and the file is not loaded before its first use
            raise ValueError(f"encoder_name: {fault}")
        return io.NodeOutput(open_text_encoder(model_path(FOLDER_KEY, encoder_name)))


NODES = [WanGGUFTextEncoderLoader]
