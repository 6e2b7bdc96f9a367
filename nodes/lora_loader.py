"""Wan GGUF LoRA Loader: a LoRA file, in whoever's spelling, onto a MODEL, with a report of what was used."""

from comfy_api.latest import io

from ..host.lora import list_loras, load_lora, lora_path, refuse_lora
from .category import CATEGORY
from .graph import refuse_wrong_files


class WanGGUFLoraLoader(io.ComfyNode):
    """Schema and calls only; the work is in `host.lora`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanGGUFLoraLoader",
            display_name="Wan GGUF LoRA Loader",
            category=CATEGORY,
            description="Adds a LoRA to a Wan model and reports how much of the file was used. It knows the names that "
            "lightx2v, kohya, musubi, PEFT, diffusers and DiffSynth write. Several can follow one another; the weights "
            "stay packed.",
            search_aliases=["lora loader", "load lora", "model only lora", "加载LoRA", "LoRA加载器"],
            inputs=[
                io.Model.Input(
                    "model",
                    display_name="model",
                    tooltip="The diffusion model, from 'Wan GGUF Model Loader' or another LoRA loader.",
                ),
                io.Combo.Input(
                    "lora_name",
                    options=list_loras(),
                    display_name="LoRA name",
                    tooltip="A LoRA for Wan (.safetensors) from models/loras. A model with two experts needs one "
                    "loader per expert, each with its own file. After adding a file, press R to refresh the list.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-100.0,
                    max=100.0,
                    step=0.01,
                    display_name="strength",
                    tooltip="A factor on what the LoRA changes: 1 as trained, 0 nothing, negative values reverse it. "
                    "The file's own alpha comes on top.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    "model",
                    display_name="model",
                    tooltip="The model with the LoRA, for 'Wan GGUF Sampler', further LoRA loaders and the host's "
                    "samplers.",
                ),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="What was used, such as 400 of 400 modules, and what was not; 'Preview as Text' shows it.",
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, lora_name: str | None = None) -> bool | str:
        if lora_name is None:  # linked: known at execution only
            return True
        return refuse_lora(lora_name) or True

    @classmethod
    def fingerprint_inputs(cls, lora_name: str, strength: float, model: None = None) -> tuple[int, int]:
        status = lora_path(lora_name).stat()
        return status.st_size, status.st_mtime_ns

    @classmethod
    def execute(cls, model, lora_name: str, strength: float) -> io.NodeOutput:
        refuse_wrong_files(cls.hidden)
        return io.NodeOutput(*load_lora(model, lora_path(lora_name), strength))


NODES = [WanGGUFLoraLoader]
