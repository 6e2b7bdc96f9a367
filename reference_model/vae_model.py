"""The narrow Wan 2.1 VAE and a time-parallel form of its two halves for training.

The host runs the causal VAE in chunks of frames with a feature cache. Over a whole clip the same function is plain
causal convolution, except in the temporal resampling layers, which leave the first frame apart: `encode` and `decode`
here compute that directly, on all frames at once, and equal the host's cached result.
"""

import torch
from torch import Tensor

from host_classes import WanVAE, initialise

DIM, Z_CHANNELS = 8, 16


def build_vae(seed: int = 0) -> WanVAE:
    """The architecture of wan_2.1_vae at width 8 instead of 96 (0.92 M parameters)."""
    vae = initialise(WanVAE(dim=DIM, z_dim=Z_CHANNELS, temperal_downsample=[False, True, True]), seed)
    for name, module in vae.named_modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d):
            _start_linear(name, module)
    return vae


@torch.no_grad()
def _start_linear(name: str, conv: torch.nn.Module) -> None:
    """Start as a nearly linear autoencoder: the skip path carries averages through, residual branches begin small.

    With torch's default initialisation the narrow network needs a thousand steps to pass any colour at all.
    """
    weight = conv.weight  # (out, in, [t,] h, w)
    if ".residual." in name:
        torch.nn.init.kaiming_normal_(weight, nonlinearity="relu")
        weight.mul_(0.2 if name.endswith(".6") else 1.0)
    elif "to_qkv" not in name:
        weight.mul_(0.1)
        flat = weight.view(*weight.shape[:2], -1, *weight.shape[-2:])  # (out, in, t, h, w)
        start = torch.nn.init.orthogonal_(torch.empty(weight.shape[:2]))
        if name.endswith("time_conv") and "upsamples" in name:
            start = torch.eye(weight.shape[1]).repeat(2, 1)
        if conv.stride[-1] == 2:  # the picture is padded at its right and lower edge only
            flat[:, :, -1, :2, :2] += start[:, :, None, None] / 4
        elif name.endswith("time_conv") and "downsamples" in name:
            flat[:, :, -2:, 0, 0] += torch.eye(len(start))[:, :, None] / 2
        else:
            flat[:, :, -1, weight.shape[-2] // 2, weight.shape[-1] // 2] += start
    torch.nn.init.zeros_(conv.bias)


def _resample(layer: torch.nn.Module, x: Tensor) -> Tensor:
    if layer.mode == "upsample3d" and x.shape[2] > 1:
        b, c, t, h, w = x.shape
        rest = layer.time_conv(x[:, :, 1:])  # (b, 2c, t-1, h, w)
        rest = rest.reshape(b, 2, c, t - 1, h, w).permute(0, 2, 3, 1, 4, 5).reshape(b, c, 2 * (t - 1), h, w)
        x = torch.cat([x[:, :, :1], rest], 2)
    t = x.shape[2]
    x = layer.resample(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (-1, t)).transpose(1, 2)
    if layer.mode == "downsample3d" and t > 1:
        x = torch.cat([x[:, :, :1], torch.nn.Conv3d.forward(layer.time_conv, x)], 2)
    return x


def _attention(layer: torch.nn.Module, x: Tensor) -> Tensor:
    b, c, t, h, w = x.shape
    y = x.transpose(1, 2).flatten(0, 1)  # (bt, c, h, w)
    q, k, v = layer.to_qkv(layer.norm(y)).flatten(2).transpose(1, 2).chunk(3, dim=-1)  # (bt, hw, c)
    y = ((q @ k.transpose(1, 2)) * c**-0.5).softmax(-1) @ v
    y = layer.proj(y.transpose(1, 2).unflatten(2, (h, w)))
    return x + y.unflatten(0, (b, t)).transpose(1, 2)


def _run(layers, x: Tensor) -> Tensor:
    for layer in layers:
        kind = type(layer).__name__
        x = (
            _resample(layer, x)
            if kind == "Resample"
            else _attention(layer, x)
            if kind == "AttentionBlock"
            else layer(x)
        )
    return x


def encode(vae: WanVAE, video: Tensor) -> Tensor:
    """(B, 3, 1+4k, H, W) in -1..1 -> latent means (B, 16, 1+k, H/8, W/8), before the Wan 2.1 mean and std."""
    enc = vae.encoder
    x = _run(enc.head, _run(enc.middle, _run(enc.downsamples, enc.conv1(video))))
    return vae.conv1(x).chunk(2, dim=1)[0]


def decode(vae: WanVAE, latent: Tensor) -> Tensor:
    """(B, 16, T, h, w) -> (B, 3, 4T-3, 8h, 8w), not clamped."""
    dec = vae.decoder
    return _run(dec.head, _run(dec.upsamples, _run(dec.middle, dec.conv1(vae.conv2(latent)))))
