"""Stage 3c: the low-noise expert. `python3 reference_model/train_low_noise.py` (about 20 minutes on two CPU cores).

Wan2.2 T2V-A14B has one transformer for the noisy part of a run and one for the rest. Here the transformer of stage 3b,
which knows all noise levels, serves as the first; this script makes the second from it, by training further below the
boundary only. Every 50 steps it prints both models' loss on clips that stay out of the training, below and above the
boundary: the new one must become the better one below; above it has no reason to.
"""

import environment

environment.enter(__file__)

import argparse

import numpy as np
import torch

from dit_model import build_dit
from host_classes import DEVICE
from train_dit import BATCH, Data, loss_of, stratified_sigmas
from training import WORK, Average, Log, learning_rate, load, save

BOUNDARY = 0.875  # sigma, as for T2V-A14B
KEPT_OUT = 240  # latents for the comparison


def split_off(data: Data) -> tuple[torch.Tensor, list[int]]:
    """Take the kept-out latents away from `data`; returns them with their combinations."""
    order = np.random.default_rng(5).permutation(len(data.combination))
    kept, used = order[:KEPT_OUT], order[KEPT_OUT:]
    taken = data.latents[kept].float(), [data.combination[i] for i in kept]
    data.latents, data.combination = data.latents[used], [data.combination[i] for i in used]
    return taken


@torch.no_grad()
def losses(model, data: Data, latents: torch.Tensor, combinations: list[int]) -> tuple[float, float]:
    """Mean loss (below the boundary, above it) over the kept-out latents; the same noise and captions in every call."""
    state, below, above = torch.get_rng_state(), [], []
    torch.manual_seed(3)
    for begin in range(0, KEPT_OUT, BATCH):
        said = [data.pool[c][0] for c in combinations[begin : begin + BATCH]]
        batch = latents[begin : begin + BATCH].to(DEVICE), *data.context(said)
        sigma = stratified_sigmas(BOUNDARY)
        below.append(loss_of(model, sigma, *batch, 1.0).item())
        above.append(loss_of(model, BOUNDARY + sigma / BOUNDARY * (1 - BOUNDARY), *batch, 1.0).item())
    torch.set_rng_state(state)
    return float(np.mean(below)), float(np.mean(above))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--peak", type=float, default=1.5e-4)
    parser.add_argument("--seed", type=int, default=23)
    a = parser.parse_args()
    torch.manual_seed(a.seed)
    model, data, log = build_dit(), Data(a.seed), Log()
    model.load_state_dict(load("dit"))
    average, shown, running = Average(model, 0.99), build_dit(), []
    kept = split_off(data)
    log.report(0, **dict(zip(("below", "above"), losses(model, data, *kept), strict=True)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=a.peak, betas=(0.9, 0.98), weight_decay=0.0)
    for step in range(1, a.steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, a.steps, a.peak, 1e-6, warmup=20, hold=0.2)
        loss = loss_of(model, stratified_sigmas(BOUNDARY), *data.batch(), 1.0)
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model)
        running.append(loss.item())
        if step % 50 == 0 or step == a.steps:
            shown.load_state_dict(average.weights)
            below, above = losses(shown, data, *kept)
            log.report(step, loss=float(np.mean(running[-50:])), below=below, above=above)
            save("dit_low_noise", average.weights)
    print("saved", WORK / "dit_low_noise.safetensors")


if __name__ == "__main__":
    main()
