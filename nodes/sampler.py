"""Wan GGUF Sampler: noise from the seed, then classifier-free guidance along a schedule with a solver."""

from comfy_api.latest import io

from ..host.cfg_batching import CFG_MODES
from ..host.sampler import sample_latent
from ..sampling.guidance import validate_cfg
from ..sampling.noise import MAX_SEED
from ..sampling.solvers import SOLVERS
from .category import CATEGORY

MAX_STEPS = 1000


class WanGGUFSampler(io.ComfyNode):
    """Schema and calls only; the work is in `host.sampler` and `sampling`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanGGUFSampler",
            display_name="Wan GGUF Sampler",
            category=CATEGORY,
            description="Turns noise into a video latent that follows the prompt. Everything that can change the "
            "result is a setting here, so the same settings and seed give the same video.",
            search_aliases=["ksampler", "sampler", "unipc", "cfg", "采样器", "K采样器"],
            inputs=[*_link_inputs(), *_noise_inputs(), *_guidance_inputs()],
            outputs=[
                io.Latent.Output(
                    "samples",
                    display_name="latent",
                    tooltip="The finished video latent, for 'Wan GGUF VAE Decode'.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, cfg: float | None = None) -> bool | str:
        if cfg is None:  # linked: checked at execution
            return True
        try:
            validate_cfg(cfg)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        model,
        positive,
        negative,
        latent: dict,
        seed: int,
        steps: int,
        cfg: float,
        shift: float,
        solver: str,
        cfg_mode: str,
    ) -> io.NodeOutput:
        settings = {"seed": seed, "steps": steps, "cfg": cfg, "shift": shift, "solver": solver, "cfg_mode": cfg_mode}
        return io.NodeOutput(sample_latent(model, positive, negative, latent, **settings))


def _link_inputs() -> list[io.Input]:
    return [
        io.Model.Input(
            "model",
            display_name="model",
            tooltip="The diffusion model, from 'Wan GGUF Model Loader', with or without LoRA.",
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
            "on detail. Official: 5 for TI2V-5B, 12 for T2V-A14B, 3 for 480p with Wan2.1.",
        ),
        io.Combo.Input(
            "solver",
            options=list(SOLVERS),
            default="unipc",
            display_name="solver",
            tooltip="How a step is computed: unipc is the official multistep solver with its own schedule; euler is "
            "the plain first-order one, for models and LoRAs made for few steps.",
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


NODES = [WanGGUFSampler]
