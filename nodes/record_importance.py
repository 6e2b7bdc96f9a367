"""Wan GGUF Record Importance: a MODEL that, while it samples, records which of its weights count, for `convert`."""

from comfy_api.latest import io

from ..host.calibration import record_importance
from .category import CATEGORY
from .graph import refuse_wrong_files


class WanGGUFRecordImportance(io.ComfyNode):
    """Schema and calls only; the work is in `host.calibration`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanGGUFRecordImportance",
            display_name="Wan GGUF Record Importance",
            category=CATEGORY,
            description="Records, while the model samples, how large the inputs of its layers are and how sensitive "
            "its output is to each layer. 'python3 cli convert --importance FILE' uses the files to choose a type for "
            "every matrix. The video that is made stays the same.",
            search_aliases=["imatrix", "importance matrix", "calibration", "calibrate", "重要性矩阵", "校准"],
            inputs=_inputs(),
            outputs=[
                io.Model.Output(
                    "model",
                    display_name="model",
                    tooltip="The same model, for 'Wan GGUF Sampler' or the host's samplers.",
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, model, filename_prefix: str, probed_steps: int, sigma_min: float, sigma_max: float
    ) -> io.NodeOutput:
        refuse_wrong_files(cls.hidden)
        return io.NodeOutput(record_importance(model, filename_prefix, probed_steps, sigma_min, sigma_max))


def _inputs() -> list[io.Input]:
    return [
        io.Model.Input(
            "model",
            display_name="model",
            tooltip="A Wan model in F16, BF16 or Q8_0, from 'Wan GGUF Model Loader' or a loader of the host.",
        ),
        io.String.Input(
            "filename_prefix",
            default="wan_gguf/importance",
            display_name="filename prefix",
            tooltip="Name of the file in ComfyUI's output folder; a number and .safetensors are added. Every "
            "run of a sampler writes one.",
        ),
        io.Int.Input(
            "probed_steps",
            default=4,
            min=0,
            max=100,
            display_name="probed steps",
            tooltip="Sampling steps at which every layer is probed: the step is computed again once for each "
            "layer (300 to 400 in a 14B model). 0 probes nothing and costs next to nothing.",
        ),
        io.Float.Input(
            "sigma_min",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.001,
            display_name="sigma min",
            tooltip="Noise level, 0 to 1. Steps with less do not count: 0.875 for the high-noise expert of "
            "A14B, else 0.",
        ),
        io.Float.Input(
            "sigma_max",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.001,
            display_name="sigma max",
            tooltip="Noise level, 0 to 1. Steps with more do not count: 0.875 for the low-noise expert of "
            "A14B, else 1.",
        ),
    ]


NODES = [WanGGUFRecordImportance]
