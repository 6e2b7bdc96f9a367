"""Stage 2: the text encoder. `python3 reference_model/train_text.py` (a few minutes on two CPU cores).

Trained together with the video model from the start, the encoder collapses to one output for all captions. So it learns
first, on captions alone: every token's output must tell the four attributes of its sentence through one linear layer
per attribute, shared by both languages ("none" where the caption does not say, or is a text that stands for nothing).
Afterwards it is frozen.
"""

import environment

environment.enter(__file__)

import argparse
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from captions import LANGUAGES, NOTHING, PROBE, WORDS, caption, mentions_background
from host_classes import DEVICE
from text_model import WIDTH, build_encoder, load_vocabulary, to_batch, tokenize
from training import Log, autocast, learning_rate, save
from world import BACKGROUNDS, COLORS, DIRECTIONS, HELD_OUT, SHAPES, TRAINING, Combination

VALUES = {"shape": SHAPES, "color": tuple(COLORS), "direction": tuple(DIRECTIONS), "background": tuple(BACKGROUNDS)}
PAIRS, UNSAID = 32, 0.15


def labels(combination: Combination | None, text: str) -> list[int]:
    """One class per attribute; the class after the last value means "none"."""
    if combination is None:
        return [len(values) for values in VALUES.values()]
    row = [
        values.index(getattr(combination, name)) if getattr(combination, name) else len(values)
        for name, values in VALUES.items()
    ]
    if not mentions_background(text):
        row[3] = len(BACKGROUNDS)
    return row


def left_out(combination: Combination, rng: np.random.Generator) -> Combination:
    """The combination with some attributes unsaid, so that no attribute is learned through the company it keeps."""
    unsaid = {name: None for name in ("shape", "color", "direction") if rng.random() < UNSAID}
    return replace(combination, **unsaid)


def batch(rng: np.random.Generator) -> tuple[list[str], list[list[int]]]:
    texts, rows = [], []
    for _ in range(PAIRS):
        combination = left_out(TRAINING[rng.integers(len(TRAINING))], rng)
        for language in LANGUAGES:
            texts.append(caption(combination, language, rng))
            rows.append(labels(combination, texts[-1]))
    return texts, rows


def losses(encoder, heads, ids_rows: list[list[int]], rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross entropy over all tokens and attributes, and each text's mean output (B, 256)."""
    ids, mask = to_batch(ids_rows)
    with autocast():
        out = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        scores = [head(out) for head in heads]
    target = torch.tensor(rows, device=DEVICE)
    real = mask.bool()
    per_token = [
        F.cross_entropy(score.float()[real], target[:, i, None].expand_as(ids)[real], reduction="none")
        for i, score in enumerate(scores)
    ]
    return sum(loss.mean() for loss in per_token), (out.float() * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def fillers(vocabulary) -> list[int]:
    """Pieces that no attribute's word is made of; strewn between a caption's tokens they stand for unknown wording."""
    words = {word for language in WORDS.values() for forms in language.values() for word in forms}
    used = {piece for word in words for text in (word, f"的{word}，") for piece in vocabulary.encode(text)}
    return [i for i in range(vocabulary.get_piece_size()) if i not in used and not vocabulary.is_control(i)]


def strewn(row: list[int], strange: list[int], rng: np.random.Generator) -> list[int]:
    """The row, in four cases of ten with up to six fillers at random places."""
    if rng.random() < 0.4:
        for _ in range(rng.integers(1, 7)):
            row = list(row)
            row.insert(rng.integers(len(row) + 1), strange[rng.integers(len(strange))])
    return row


def loss_of(encoder, heads, vocabulary, strange: list[int], rng: np.random.Generator, step: int) -> torch.Tensor:
    """Attributes of the captions; the two languages' mean outputs together; every fourth step the texts for nothing."""
    texts, rows = batch(rng)
    ids_rows = [strewn(row, strange, rng) for row in tokenize(vocabulary, texts)]
    loss, mean = losses(encoder, heads, ids_rows, rows)
    loss = loss + 0.1 * (mean[::2] - mean[1::2]).square().mean()
    if step % 4 == 0:
        nothing = tokenize(vocabulary, list(NOTHING))
        loss = loss + losses(encoder, heads, nothing, [labels(None, t) for t in NOTHING])[0]
    return loss


@torch.no_grad()
def evaluate(encoder, heads, vocabulary, combinations, phrasings=None) -> dict[str, float]:
    """Share of captions, per language, whose tokens' mean scores name all attributes right; and the outputs' spread."""
    rng, result = np.random.default_rng(5), {}
    for language in LANGUAGES:
        texts = [caption(c, language, rng, phrasings) for c in combinations for _ in range(4)]
        target = torch.tensor([labels(c, texts[4 * i + j]) for i, c in enumerate(combinations) for j in range(4)])
        ids, mask = to_batch(tokenize(vocabulary, texts))
        out = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        mean = (out * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        said = torch.stack([head(mean).argmax(-1) for head in heads], 1).cpu()
        for i, name in enumerate(VALUES):
            result[f"{language}_{name}"] = round((said == target)[:, i].float().mean().item(), 3)
        result[f"spread_{language}"] = mean.std(0).mean().item()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=700)
    steps = parser.parse_args().steps
    vocabulary = load_vocabulary()
    encoder = build_encoder(vocabulary.get_piece_size())
    heads = torch.nn.ModuleList([torch.nn.Linear(WIDTH, len(v) + 1) for v in VALUES.values()]).to(DEVICE)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *heads.parameters()], lr=3e-4, weight_decay=0.01)
    log, rng, strange = Log(), np.random.default_rng(3), fillers(vocabulary)
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, 1e-3, 1e-5, warmup=50, hold=0.5)
        loss = loss_of(encoder, heads, vocabulary, strange, rng, step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0:
            log.report(step, loss=loss.item())
        if step % 500 == 0 or step == steps:
            print("training combinations", evaluate(encoder, heads, vocabulary, TRAINING))
            print("held out             ", evaluate(encoder, heads, vocabulary, HELD_OUT))
            print("held out, unseen text", evaluate(encoder, heads, vocabulary, HELD_OUT, PROBE))
    weights = {k: v for k, v in encoder.state_dict().items() if k != "encoder.embed_tokens.weight"}
    save("text", weights)


if __name__ == "__main__":
    main()
