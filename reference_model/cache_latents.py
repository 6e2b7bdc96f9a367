"""Stage 3a: encode training clips once. `python3 reference_model/cache_latents.py` (four minutes on two cores)."""

import environment

environment.enter(__file__)

import argparse

import numpy as np
import torch

from host_classes import DEVICE, comfy
from training import load, save
from vae_model import build_vae, encode
from world import COMBINATIONS, TRAINING, draw_clip

CHUNK = 5


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-combination", type=int, default=40)
    count = parser.parse_args().per_combination
    vae = build_vae().to(DEVICE)
    vae.load_state_dict(load("vae"))
    rng, latents, index = np.random.default_rng(11), [], []
    process_in = comfy.latent_formats.Wan21().process_in
    for combination in TRAINING:
        for _ in range(count // CHUNK):
            clips = np.stack([draw_clip(combination, rng)[0] for _ in range(CHUNK)])
            video = torch.from_numpy(clips).permute(0, 4, 1, 2, 3).to(DEVICE) * 2 - 1
            latents.append(process_in(encode(vae, video)).cpu())
            index += [COMBINATIONS.index(combination)] * CHUNK
    stacked = torch.cat(latents)
    print(tuple(stacked.shape), "mean", stacked.mean().item(), "spread", stacked.std().item())
    save("latents", {"latents": stacked.half(), "combination": torch.tensor(index)})


if __name__ == "__main__":
    main()
