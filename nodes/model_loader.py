"""Wan GGUF Model Loader: a Wan diffusion model from a GGUF file as the host's MODEL."""

from comfy_api.latest import io

from ..host.models import load_diffusion_model
from ..host.paths import list_models, model_path
from ..ops.dispatch import MODES
from .category import CATEGORY
from .graph import log_hints, refuse_wrong_files
from .model_files import file_version, refuse_file

FOLDER_KEY = "unet_gguf"
DTYPES = ["auto", "bf16", "fp16", "fp32"]


class WanGGUFModelLoader(io.ComfyNode):
    """Schema and calls only; the work is in `host.models`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanGGUFModelLoader",
            display_name="Wan GGUF Model Loader",
            category=CATEGORY,
            description="Loads a Wan video model from a GGUF file. The weights stay packed in the file's quantisation, "
            "in memory and on the device. The model works with LoRA loaders, samplers and every other "
            "node that takes a MODEL.",
            search_aliases=[
                "unet loader gguf",
                "wan gguf loader",
                "load diffusion model",
                "加载扩散模型",
                "模型加载器",
            ],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=list_models(FOLDER_KEY),
                    display_name="model name",
                    tooltip="A Wan diffusion model in GGUF form, from models/diffusion_models or models/unet. After "
                    "adding a file, press R to refresh the list.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=DTYPES,
                    default="auto",
                    display_name="dtype",
                    tooltip="Number format of the computation; the file keeps its own. auto takes what suits the "
                    "device (bf16 or fp16 on a GPU, bf16 or fp32 on a CPU). fp32 is the most exact and the slowest.",
                ),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default="exact",
                    optional=True,
                    display_name="mode",
                    tooltip="How matmuls are computed. exact: with the weights as the file has them. int8: weights and "
                    "activations are rounded to 8 bits for the integer units of the GPU or CPU; faster, with an error "
                    "of about 1 % per layer, so the same seed gives a slightly different video.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    "model",
                    display_name="model",
                    tooltip="The diffusion model, for 'Wan GGUF Sampler', for LoRA loaders and for the host's "
                    "samplers.",
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, model_name: str | None = None) -> bool | str:
        if model_name is None:  # linked: known at execution only
            return True
        return refuse_file(FOLDER_KEY, model_name, "wan") or True

    @classmethod
    def fingerprint_inputs(cls, model_name: str, dtype: str, mode: str = "exact") -> tuple[int, int]:
        return file_version(FOLDER_KEY, model_name)

    @classmethod
    async def execute(cls, model_name: str, dtype: str, mode: str = "exact") -> io.NodeOutput:
        """Async only because the host starts async nodes first: a wrong VAE is refused before Load VAE reads it."""
        refuse_wrong_files(cls.hidden)
        log_hints(cls.hidden)
        return io.NodeOutput(load_diffusion_model(model_path(FOLDER_KEY, model_name), dtype, mode))


NODES = [WanGGUFModelLoader]
