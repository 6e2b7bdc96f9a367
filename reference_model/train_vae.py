"""Stage 1: the VAE. `python3 reference_model/train_vae.py` (20 to 30 minutes on two CPU cores).

Noise is added to the latents while the decoder learns, and their size is penalised: a variational autoencoder whose
posterior has a fixed width. It keeps the latents smooth, so the sampler's small errors stay small in the picture.
Afterwards the latents' mean and spread are folded into conv1 and conv2 such that the host's fixed Wan 2.1 statistics
normalise them.
"""

import environment

environment.enter(__file__)

import argparse

import numpy as np
import torch
import torch.nn.functional as F

from host_classes import DEVICE, comfy
from judge import judge
from training import Average, Log, autocast, learning_rate, save
from vae_model import build_vae, decode, encode
from world import COMBINATIONS, FRAMES, TRAINING, draw_clip

NOISE, SIZE_WEIGHT = 0.4, 3e-3


def curriculum(progress: float) -> tuple[int, int]:
    """Frames and batch size at a share of the run: pictures first, which teaches space at a tenth of the cost."""
    return (1, 16) if progress < 0.2 else (5, 6) if progress < 0.45 else (17, 2)


def batch(rng: np.random.Generator, frames: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, 3, T, 64, 64) in -1..1, and the loss weight (B, 1, T, 64, 64): 4 around the shape, 1 elsewhere."""
    start = rng.integers(FRAMES - frames + 1)
    clips = [draw_clip(TRAINING[rng.integers(len(TRAINING))], rng) for _ in range(size)]
    clips = [(video[start : start + frames], mask[start : start + frames]) for video, mask in clips]
    video = torch.from_numpy(np.stack([c[0] for c in clips])).permute(0, 4, 1, 2, 3) * 2 - 1
    mask = torch.from_numpy(np.stack([c[1] for c in clips]))[:, None]
    weight = 1 + 3 * F.max_pool3d(mask, (1, 7, 7), 1, (0, 3, 3))
    return video.to(DEVICE, memory_format=torch.channels_last_3d), weight.to(DEVICE)


def loss_of(vae, video: torch.Tensor, weight: torch.Tensor, noise: float) -> tuple[torch.Tensor, float]:
    with autocast():
        latent = encode(vae, video)
        width = noise * torch.rand(len(video), 1, 1, 1, 1, device=DEVICE)
        out = decode(vae, latent + width * torch.randn_like(latent)).float()
    error = out - video
    loss = (weight * (error.abs() + error.square())).mean()
    for dim in (3, 4):
        loss = loss + 0.5 * error.diff(dim=dim).abs().mean()
    return loss + SIZE_WEIGHT * latent.float().square().mean(), error.square().mean().item()


@torch.no_grad()
def evaluate(vae, noise: float, count: int = 36) -> tuple[float, float]:
    """PSNR in dB, and the share of reconstructions the judge reads right in all four attributes."""
    rng, right, errors = np.random.default_rng(1), 0, []
    for index in range(count):
        combination = COMBINATIONS[(index * 7) % len(COMBINATIONS)]
        frames = draw_clip(combination, rng)[0]
        video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].to(DEVICE) * 2 - 1
        latent = encode(vae, video)
        out = decode(vae, latent + noise * torch.randn(latent.shape).to(DEVICE)).clamp(-1, 1)
        errors.append((out - video).square().mean().item() / 4)
        verdict = judge((out[0].permute(1, 2, 3, 0).cpu().numpy() + 1) / 2)
        right += all(getattr(verdict, a) == getattr(combination, a) for a in vars(combination))
    return -10 * np.log10(np.mean(errors)), right / count


@torch.no_grad()
def fold_statistics(vae, count: int = 96) -> None:
    """Rescale conv1 (means) and conv2 so that the latents have the Wan 2.1 mean and spread, channel by channel."""
    rng = np.random.default_rng(2)
    clips = [draw_clip(TRAINING[i % len(TRAINING)], rng)[0] for i in range(count)]
    latents = [encode(vae, torch.from_numpy(c).permute(3, 0, 1, 2)[None].to(DEVICE) * 2 - 1) for c in clips]
    spread, mean = torch.std_mean(torch.cat(latents), dim=(0, 2, 3, 4))
    wan = comfy.latent_formats.Wan21()
    wan_mean, wan_std = wan.latents_mean.flatten().to(DEVICE), wan.latents_std.flatten().to(DEVICE)
    gain = wan_std / spread  # new = (old - mean) * gain + wan_mean
    z, head, tail = len(gain), vae.conv1, vae.conv2
    head.weight[:z] *= gain[:, None, None, None, None]
    head.bias[:z] = (head.bias[:z] - mean) * gain + wan_mean
    head.weight[z:], head.bias[z:] = 0, -20.0  # the log variance is not used
    tail.bias += tail.weight[:, :, 0, 0, 0] @ (mean - wan_mean / gain)
    tail.weight /= gain[None, :, None, None, None]
    print("latent spread before folding:", [round(v, 2) for v in spread.tolist()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5000)
    steps = parser.parse_args().steps
    vae = build_vae().to(DEVICE)
    for parameter in vae.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=1e-3)
    average, log, rng = Average(vae, 0.998), Log(), np.random.default_rng(0)
    torch.manual_seed(0)
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, 2e-3, 5e-5, warmup=50, hold=0.3)
        loss, mse = loss_of(
            vae, *batch(rng, *curriculum(step / steps)), NOISE * min(1.0, max(0.0, step / steps - 0.1) / 0.3)
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        average.update(vae)
        if step % 50 == 0:
            log.report(step, loss=loss.item(), noisy_db=-10 * np.log10(mse / 4))
        if step % 1000 == 0 or step == steps:
            trained = build_vae().to(DEVICE)
            trained.load_state_dict(average.weights)
            (db, right), (_, right_noisy) = evaluate(trained, 0.0), evaluate(trained, 0.15)
            log.report(step, db=db, right=right, right_noisy=right_noisy)
            save("vae_raw", trained.state_dict())
    fold_statistics(trained)
    print("after folding: {:.2f} dB, right {:.3f}".format(*evaluate(trained, 0.0)))
    save("vae", trained.state_dict())


if __name__ == "__main__":
    main()
