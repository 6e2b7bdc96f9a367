"""Stage 3b: the transformer. `python3 reference_model/train_dit.py` (about 30 minutes on two CPU cores; resumes).

Flow matching on cached latents: x = (1 - sigma) * clean + sigma * noise, target v = noise - clean, sigma stratified and
shifted by 3 as in sampling. One caption in ten is a text that stands for nothing. Two numbers tell early whether the
conditioning is alive: the spread of the encoder's outputs (train_text.py prints it) and, here, `asks`: how much v
changes with the caption at fixed noise, relative to v.
"""

import environment

environment.enter(__file__)

import argparse

import numpy as np
import torch

from captions import LANGUAGES, NOTHING, caption
from dit_model import build_dit, velocity
from host_classes import DEVICE
from text_model import build_encoder, load_vocabulary, to_batch, tokenize
from training import WORK, Average, Log, autocast, learning_rate, load, save
from world import COMBINATIONS

BATCH, POOL, SHIFT, NOTHING_SHARE = 24, 80, 3.0, 0.12
NOTHING_ODDS = (0.6, 0.2, 0.2)  # the empty text, the Chinese and the English default negative prompt


class Data:
    """Latents and encoded captions in memory: the encoder is frozen, so a pool of captions is encoded once."""

    def __init__(self, seed: int):
        cached = load("latents")
        self.latents, self.combination = cached["latents"], cached["combination"].tolist()
        self.rng = np.random.default_rng(seed)
        self.vocabulary = load_vocabulary()
        self.encoder = build_encoder(self.vocabulary.get_piece_size()).eval()
        missing = self.encoder.load_state_dict(load("text"), strict=False).missing_keys
        if missing not in ([], ["encoder.embed_tokens.weight"]):
            raise ValueError(f"work/text.safetensors lacks {missing}; run train_text.py again")
        self.nothing = self.encode(list(NOTHING))
        self.pool = {c: self.encode(self.captions(c)) for c in sorted(set(self.combination))}

    def captions(self, combination: int) -> list[str]:
        return [caption(COMBINATIONS[combination], LANGUAGES[i % 2], self.rng) for i in range(POOL)]

    @torch.no_grad()
    def encode(self, texts: list[str]) -> list[torch.Tensor]:
        """Each text's outputs (L, 256), padding left off."""
        ids, mask = to_batch(tokenize(self.vocabulary, texts))
        out = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return [row[:length] for row, length in zip(out, mask.sum(1).tolist(), strict=True)]

    def context(self, outputs: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs of several texts as (B, L, 256) with zeros past each text, and the lengths (B,)."""
        lengths = torch.tensor([len(out) for out in outputs], device=DEVICE)
        context = torch.zeros(len(outputs), -(-int(lengths.max()) // 16) * 16, outputs[0].shape[1], device=DEVICE)
        for row, out in zip(context, outputs, strict=True):
            row[: len(out)] = out
        return context, lengths

    def batch(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        picked = self.rng.integers(len(self.combination), size=BATCH)
        nothing = self.nothing[self.rng.choice(len(NOTHING), p=NOTHING_ODDS)]  # one per batch: the defaults are long
        said = [self.pool[self.combination[i]][self.rng.integers(POOL)] for i in picked]
        outputs = [nothing if self.rng.random() < NOTHING_SHARE else out for out in said]
        return self.latents[torch.from_numpy(picked).to(DEVICE)].float(), *self.context(outputs)


def stratified_sigmas(top: float = 1.0) -> torch.Tensor:
    """(BATCH,) noise levels below `top`, one from each of BATCH equal shares of the run at shift 3."""
    u = (torch.arange(BATCH, device=DEVICE) + torch.rand(BATCH, device=DEVICE)) / BATCH
    u = u * top / (SHIFT - (SHIFT - 1) * top)  # the share of the run that lies below `top`
    return SHIFT * u / (1 + (SHIFT - 1) * u)


def loss_of(model, sigma, clean, context, lengths, padding: float) -> torch.Tensor:
    noise, s = torch.randn_like(clean), sigma[:, None, None, None, None]
    with autocast():
        v = velocity(model, (1 - s) * clean + s * noise, sigma, context, lengths, padding)
    return (v.float() - (noise - clean)).square().mean()


@torch.no_grad()
def asks(model, data: Data) -> float:
    """Relative change of v when only the caption's colour changes, at sigma 0.9."""
    texts = [f"a {color} circle moves left" for color in ("red", "blue")] + ["一个绿色的圆形向右移动"]
    context, lengths = data.context(data.encode(texts))
    x = torch.randn(1, 16, 5, 8, 8, generator=torch.Generator().manual_seed(0)).to(DEVICE).expand(3, -1, -1, -1, -1)
    v = velocity(model, x, torch.full((3,), 0.9, device=DEVICE), context, lengths, 1.0)
    return (v.std(0).mean() / v.std()).item()


def optimizers(model) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for everything else."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and n.startswith("blocks.")]
    rest = [p for n, p in model.named_parameters() if not (p.ndim == 2 and n.startswith("blocks."))]
    muon = torch.optim.Muon(matrices, lr=1.0, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(rest, lr=1.0, betas=(0.9, 0.98), weight_decay=0.0)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--peak", type=float, default=1e-3)
    parser.add_argument(
        "--anneal", type=float, default=0.3, help="share of the run over which padding gains its weight"
    )
    parser.add_argument("--resume", help="checkpoint in work/ to begin from, e.g. dit")
    parser.add_argument("--name", default="dit", help="checkpoint to write in work/")
    parser.add_argument("--seed", type=int, default=17)
    a = parser.parse_args()
    torch.manual_seed(a.seed)
    model, data, log = build_dit(), Data(a.seed), Log()
    if a.resume:
        model.load_state_dict(load(a.resume))
    average, running = Average(model, 0.999), []
    chosen = optimizers(model)
    for step in range(1, a.steps + 1):
        for optimizer in chosen:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, a.steps, a.peak, 1e-5, warmup=100, hold=0.6)
        padding = 1.0 if a.resume else min(1.0, step / max(1, a.anneal * a.steps))
        loss = loss_of(model, stratified_sigmas(), *data.batch(), padding)
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in chosen:
            optimizer.step()
        average.update(model)
        running.append(loss.item())
        if step % 50 == 0:
            log.report(step, loss=float(np.mean(running[-200:])), asks=asks(model, data))
        if step % 250 == 0 or step == a.steps:
            save(a.name, average.weights)
    print("saved", WORK / f"{a.name}.safetensors")


if __name__ == "__main__":
    main()
