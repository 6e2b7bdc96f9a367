"""Wan GGUF Sampler: noise from the seed, then classifier-free guidance along a schedule with a solver."""

from collections.abc import Sequence

from comfy_api.latest import io, ui

from ..host.cfg_batching import CFG_MODES
from ..host.sampler import describe_run, sample_rows
from ..sampling.experts import AUTO_BOUNDARY, IMAGE_BOUNDARY, TEXT_BOUNDARY
from ..sampling.guidance import SAME_CFG, resolve_cfg_low_noise, validate_cfg
from ..sampling.noise import MAX_SEED
from ..sampling.presets import CUSTOM, PRESETS
from ..sampling.solvers import SOLVERS
from .category import CATEGORY
from .graph import refuse_wrong_files
from .graph_saving import video_plan
from .lists import as_rows

MAX_STEPS = 1000


class WanGGUFSampler(io.ComfyNode):
    """Schema and calls only; the work is in `host.sampler` and `sampling`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanGGUFSampler",
            display_name="Wan GGUF Sampler",
            category=CATEGORY,
            description="Turns noise into a video latent that follows the prompt, with one model or with the two "
            "experts of Wan2.2 A14B. Everything that can change the result is a setting here, so the same settings and "
            "seed give the same video. Lists, as from 'Wan GGUF Prompt List', are sampled row by row with every model "
            "loaded once.",
            search_aliases=["ksampler", "sampler", "unipc", "dpm++", "cfg", "high noise", "采样器", "K采样器"],
            inputs=[*_link_inputs(), *_noise_inputs(), *_guidance_inputs(), *_preset_inputs(), *_expert_inputs()],
            outputs=[
                io.Latent.Output(
                    "samples",
                    display_name="latent",
                    tooltip="The finished video latent, for 'Wan GGUF VAE Decode'; of lists one for each row.",
                    is_output_list=True,
                ),
            ],
            is_input_list=True,
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, cfg: Sequence | None = None, cfg_low_noise: Sequence | None = None) -> bool | str:
        try:  # a value comes as a list of it; what is linked as (None,), and is checked at execution
            for scale in cfg or ():
                if scale is not None:
                    validate_cfg(scale)
            for scale in cfg_low_noise or ():
                if scale is not None:
                    resolve_cfg_low_noise(scale, cfg=1.0)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, **inputs: list) -> io.NodeOutput:
        refuse_wrong_files(cls.hidden)
        rows = as_rows(inputs)
        node_id = None if cls.hidden is None else cls.hidden.unique_id
        sampled = sample_rows(rows, node_id, video_plan(cls.hidden, len(rows)))
        return io.NodeOutput(sampled, ui=ui.PreviewText(describe_rows([row["wan_gguf"] for row in sampled])))


def describe_rows(records: list[dict]) -> str:
    """The settings of a run in words; of several the seeds too, and what they have in common once."""
    if len(records) == 1:
        return describe_run(records[0])
    texts = [describe_run(record) for record in records]
    lines = [f"row {number}: seed {record['seed']}" for number, record in enumerate(records, start=1)]
    if len(set(texts)) == 1:
        return "\n".join([texts[0], *lines])
    return "\n".join(f"{line}, {text}" for line, text in zip(lines, texts, strict=True))


def _link_inputs() -> list[io.Input]:
    return [
        io.Model.Input(
            "model",
            display_name="model",
            tooltip="The diffusion model, from 'Wan GGUF Model Loader', with or without LoRA. Of the two experts of "
            "Wan2.2 A14B it is the high-noise one.",
        ),
        io.Conditioning.Input(
            "positive",
            display_name="positive",
            tooltip="The encoded prompt: what the video should show.",
        ),
        io.Conditioning.Input(
            "negative",
            display_name="negative",
            tooltip="The encoded negative prompt: what the video should not show. Not used at cfg 1.",
        ),
        io.Latent.Input(
            "latent",
            display_name="latent",
            tooltip="An empty latent of the wanted size, from 'Wan GGUF Empty Video Latent'.",
        ),
    ]


def _noise_inputs() -> list[io.Input]:
    return [
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=MAX_SEED,
            control_after_generate=True,
            display_name="seed",
            tooltip="Number from which the starting noise is drawn, on the CPU: the same seed and settings give the "
            "same video.",
        ),
        io.Int.Input(
            "steps",
            default=40,
            min=1,
            max=MAX_STEPS,
            display_name="steps",
            tooltip="Number of denoising steps; time grows in proportion. Official: 40 for A14B, 50 for TI2V-5B; 4 "
            "with the 4-step LoRAs.",
        ),
    ]


def _guidance_inputs() -> list[io.Input]:
    return [
        io.Float.Input(
            "cfg",
            default=5.0,
            min=1.0,
            max=15.0,
            step=0.1,
            round=0.01,
            display_name="cfg",
            tooltip="Guidance scale, 1.0 to 15.0: how strongly the video follows the prompt. 1 switches guidance off "
            "and halves the time; very high values overdrive the colours.",
        ),
        io.Float.Input(
            "shift",
            default=5.0,
            min=0.01,
            max=100.0,
            step=0.1,
            round=0.01,
            display_name="shift",
            tooltip="Shift of the noise schedule (a factor): higher spends more steps on composition and motion, lower "
            "on detail. Official: 12 for T2V-A14B, 5 for the other models, 3 for 480p with TI2V-5B and Wan2.1 I2V.",
        ),
        io.Combo.Input(
            "solver",
            options=list(SOLVERS),
            default="unipc",
            display_name="solver",
            tooltip="How a step is computed: unipc is the official multistep solver with its own schedule; dpm++ the "
            "official alternative; euler the plain first-order one, for models and LoRAs made for few steps.",
        ),
        io.Combo.Input(
            "cfg_mode",
            options=list(CFG_MODES),
            default="batched",
            display_name="cfg mode",
            tooltip="batched computes the positive and the negative prompt together (faster); split one after the "
            "other (half the memory). The results differ by rounding only.",
        ),
    ]


def _preset_inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "preset",
            options=list(PRESETS),
            default=CUSTOM,
            optional=True,
            display_name="preset",
            tooltip="custom uses the values of this node. The others put the published values of the connected model "
            "in place of steps, cfg, shift, solver, cfg low noise and boundary, which are then not read: official (by "
            "the size of the video), official 720p, official 480p, or 4-step for models with a lightx2v LoRA.",
        ),
    ]


def _expert_inputs() -> list[io.Input]:
    return [
        io.Model.Input(
            "low_noise_model",
            optional=True,
            display_name="low noise model",
            tooltip="Only for Wan2.2 A14B: the low-noise expert, which takes the steps below the boundary; the "
            "high-noise one goes to model. Each may have LoRAs of its own.",
        ),
        io.Float.Input(
            "cfg_low_noise",
            default=SAME_CFG,
            min=0.0,
            max=15.0,
            step=0.1,
            round=0.01,
            optional=True,
            display_name="cfg low noise",
            tooltip="Guidance scale of the low-noise expert, 1.0 to 15.0; 0 takes the value of cfg. Official: 3 for "
            "T2V-A14B (cfg 4), 3.5 for I2V-A14B. Not used with one model.",
        ),
        io.Float.Input(
            "boundary",
            default=AUTO_BOUNDARY,
            min=0.0,
            max=1.0,
            step=0.005,
            round=0.001,
            optional=True,
            display_name="boundary",
            tooltip="Noise level, 0 to 1, below which the low-noise expert takes over; 0 takes the official one: "
            f"{TEXT_BOUNDARY} for T2V-A14B, {IMAGE_BOUNDARY} for I2V-A14B. Not used with one model.",
        ),
    ]


NODES = [WanGGUFSampler]
