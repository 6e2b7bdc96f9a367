"""The small Wan transformer, run through the host's own forward pass with an attention made for training."""

import math

import torch
from torch import Tensor

from host_classes import DEVICE, WanModel, comfy, initialise

TEXT_LENGTH = 512  # the host pads every prompt to this many tokens with zero vectors
CONFIG = {
    "model_type": "t2v",
    "dim": 256,
    "ffn_dim": 1024,
    "num_heads": 2,
    "num_layers": 6,
    "in_dim": 16,
    "out_dim": 16,
    "text_dim": 256,
    "freq_dim": 256,
}


def build_dit(seed: int = 0) -> WanModel:
    """WanModel of T2V-A14B's architecture, width 256, 6 blocks (7.4 M parameters); head and gates begin at zero."""
    model = initialise(WanModel(**CONFIG, operations=comfy.ops.disable_weight_init, dtype=torch.float32), seed)
    with torch.no_grad():
        for linear in model.modules():
            if isinstance(linear, torch.nn.Linear):
                torch.nn.init.xavier_uniform_(linear.weight)
                linear.bias.zero_()
        for layer in (*model.time_embedding, *model.text_embedding):
            if isinstance(layer, torch.nn.Linear):
                torch.nn.init.normal_(layer.weight, std=0.02)
        torch.nn.init.xavier_uniform_(model.patch_embedding.weight.view(256, -1))
        model.head.head.weight.zero_()
    return model.to(DEVICE)


def velocity(model: WanModel, x: Tensor, sigma: Tensor, context: Tensor, lengths: Tensor, padding: float) -> Tensor:
    """x (B, 16, T, H, W) at sigma (B,), context (B, L, 256) with zeros past `lengths` -> v = noise - clean.

    The host attends to 512 positions, of which those past the text are equal. Here one of them stands for all, with
    log(512 - length) * padding added to its logit: exact at padding 1, and the text weighs more below it.
    """
    b, longest, _ = context.shape
    context = torch.cat([context, context.new_zeros(b, 1, context.shape[2])], 1)
    position = torch.arange(longest + 1, device=DEVICE)[None]  # (1, L+1)
    bias = torch.zeros(b, longest + 1, device=DEVICE)
    bias = bias.masked_fill(position > lengths[:, None], -1e9)
    bias = bias + (position == lengths[:, None]) * padding * (TEXT_LENGTH - lengths[:, None]).log()

    def attention(_, q, k, v, heads, **kwargs):
        q, k, v = (y.unflatten(2, (heads, -1)).transpose(1, 2) for y in (q, k, v))  # (B, heads, L, d)
        scores = (q @ k.transpose(2, 3)).float() / math.sqrt(q.shape[-1])
        if k.shape[2] == longest + 1:
            scores = scores + bias[:, None, None]
        return (scores.softmax(-1).to(v.dtype) @ v).transpose(1, 2).flatten(2)

    return model(x, sigma * 1000, context, transformer_options={"optimized_attention_override": attention})
