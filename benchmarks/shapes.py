"""What a forward is measured on: the settings of a TI2V-5B, cut to a few layers, and its inputs."""

from dataclasses import dataclass

import torch

TI2V_5B = {
    "model_type": "t2v",
    "patch_size": (1, 2, 2),
    "dim": 3072,
    "ffn_dim": 14336,
    "num_heads": 24,
    "in_dim": 48,
    "out_dim": 48,
    "text_dim": 4096,
    "freq_dim": 256,
    "qk_norm": True,
    "cross_attn_norm": True,
}
TEXT_TOKENS = 512
FRAMES = {390: 1, 1950: 5}  # tokens -> latent frames of 832x480 pixels


@dataclass(frozen=True)
class Shape:
    """A model's settings and its latent frame in patches, (height, width)."""

    config: dict
    grid: tuple[int, int]

    @classmethod
    def of(cls, tiny: bool, layers: int) -> "Shape":
        """What the command line asked for."""
        return cls.tiny() if tiny else cls.real(layers)

    @classmethod
    def real(cls, layers: int) -> "Shape":
        """TI2V-5B with that many of its 30 layers; 390 tokens per latent frame."""
        return cls({**TI2V_5B, "num_layers": layers}, (15, 26))

    @classmethod
    def tiny(cls) -> "Shape":
        """The smallest that all parts accept: to see that everything runs."""
        small = {"dim": 256, "ffn_dim": 512, "num_heads": 2, "text_dim": 256, "num_layers": 1}
        return cls({**TI2V_5B, **small}, (2, 3))


@dataclass(frozen=True)
class Inputs:
    """x (1, c, frames, h, w), t (1,), context (1, 512, text_dim); x and context in the model's dtype."""

    x: torch.Tensor
    t: torch.Tensor
    context: torch.Tensor

    @classmethod
    def random(cls, shape: Shape, frames: int, dtype: torch.dtype) -> "Inputs":
        """The same numbers for every dtype."""
        generator = torch.Generator().manual_seed(0)
        height, width = (2 * side for side in shape.grid)
        x = torch.randn(1, shape.config["in_dim"], frames, height, width, generator=generator)
        context = torch.randn(1, TEXT_TOKENS, shape.config["text_dim"], generator=generator)
        return cls(x.to(dtype), torch.tensor([500.0]), context.to(dtype))
