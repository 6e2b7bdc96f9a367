"""How well the shipped reference model follows its prompts, through the pack: `python3 reference_model/evaluate.py`.

For combinations of attributes that were held out of the training, clips are made from English and from Chinese captions
(the same noise for both; two thirds of the captions in phrasings of the training, one third in unseen ones) and read
back from their pixels by judge.py. Everything runs as in ComfyUI: the pack's loaders, prompt encoding, sampler, decode.
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import environment

environment.enter(__file__)

import numpy as np
import torch
from PIL import Image

from captions import LANGUAGES, UNSEEN, caption, mentions_background
from host_classes import DEVICE
from judge import Verdict, judge
from wan_gguf.host.models import load_diffusion_model
from wan_gguf.host.sampler import sample_latent
from wan_gguf.host.text_encoder import encode_prompt, load_text_encoder
from wan_gguf.host.vae import decode_latent
from wan_gguf.text.clean import clean_prompt
from wan_gguf.text.negative import resolve_negative
from wan_gguf.text.weights import parse_weights
from world import HELD_OUT, TRAINING, Combination

FILES = Path(__file__).parent / "files"
ATTRIBUTES = ("color", "direction", "shape", "background")
GATED = ("color", "direction", "shape")


class Pack:
    """The three models, and prompts -> clips as the nodes do it."""

    def __init__(self, dit: Path, low_noise: Path | None = None):
        import comfy.sd
        import comfy.utils

        comfy.utils.PROGRESS_BAR_ENABLED = False
        self.model = load_diffusion_model(dit)
        self.low_noise = None if low_noise is None else load_diffusion_model(low_noise)
        self.clip = load_text_encoder(FILES / "wan_reference_umt5_f16.gguf")
        self.vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(FILES / "wan_reference_vae.safetensors")))

    def conditioning(self, prompts: list[str]) -> list:
        encoded = [encode_prompt(self.clip, parse_weights(clean_prompt(prompt)))[0] for prompt in prompts]
        return [[torch.cat([c[0] for c in encoded]), encoded[0][1]]]

    def clips(self, prompts: list[str], negative: str, seed: int, **settings) -> np.ndarray:
        """(B, 17, 64, 64, 3) floats in 0..1; clip i of a batch has the i-th share of the seed's noise."""
        latent = {"samples": torch.zeros(len(prompts), 16, 5, 8, 8)}
        positive, opposite = self.conditioning(prompts), self.conditioning([negative] * len(prompts))
        models = {"model": self.model, "low_noise_model": self.low_noise}
        sampled = sample_latent(
            positive=positive, negative=opposite, latent=latent, seed=seed, cfg_mode="split", **models, **settings
        )
        return decode_latent(self.vae, sampled).unflatten(0, (len(prompts), -1)).cpu().numpy()


def shares(verdicts: list[Verdict], wanted: list[Combination], prompts: list[str]) -> dict[str, float]:
    """Share of clips right per attribute (the background: of those whose prompt names it), and in all three at once."""
    right = {a: [getattr(v, a) == getattr(c, a) for v, c in zip(verdicts, wanted, strict=True)] for a in ATTRIBUTES}
    result = {a: float(np.mean(right[a])) for a in GATED}
    result["all three"] = float(np.all([right[a] for a in GATED], axis=0).mean())
    named = [ok for ok, prompt in zip(right["background"], prompts, strict=True) if mentions_background(prompt)]
    return result | ({"background": float(np.mean(named))} if named else {})


def sheet(rows: list[np.ndarray], path: Path) -> None:
    """One clip a row: five frames of it."""
    picture = np.concatenate([np.concatenate(list(clip[::4]), axis=1) for clip in rows], axis=0)
    Image.fromarray((picture * 255).round().astype(np.uint8)).resize(
        (picture.shape[1] * 2, picture.shape[0] * 2), Image.NEAREST
    ).save(path)


@torch.inference_mode()
def evaluate(pack: Pack, combinations: tuple[Combination, ...], rounds: int, settings: dict, out: Path | None) -> dict:
    """Accuracy per language over `rounds` clips of every combination, and how often the languages agree."""
    verdicts, said, examples = {language: [] for language in LANGUAGES}, {language: [] for language in LANGUAGES}, []
    wanted = [c for _ in range(rounds) for c in combinations]
    for seed in range(rounds):
        for language in LANGUAGES:
            rng = np.random.default_rng([seed, LANGUAGES.index(language)])
            phrasings = UNSEEN if seed % 3 == 2 else None
            prompts = [caption(c, language, rng, phrasings) for c in combinations]
            negative = resolve_negative("", prompts[0], "prompt language")
            clips = pack.clips(prompts, negative, 1000 + seed, **settings)
            verdicts[language] += [judge(clip) for clip in clips]
            said[language] += prompts
            examples += list(clips[:: max(1, len(clips) // 6)])
    if out:
        sheet(examples[:24], out)
    same = [
        all(getattr(a, name) == getattr(b, name) for name in GATED) for a, b in zip(*verdicts.values(), strict=True)
    ]
    unseen = [i for i in range(len(wanted)) if i // len(combinations) % 3 == 2]
    result = {"clips_per_language": len(wanted), "agreement": float(np.mean(same)), **settings}
    for language, seen in verdicts.items():
        result[language] = shares(seen, wanted, said[language])
        if unseen:
            columns = ([column[i] for i in unseen] for column in (seen, wanted, said[language]))
            result[f"{language}_unseen_phrasings"] = shares(*columns)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", type=float, nargs="+", default=[4.0], help="one table row each (default: 4)")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--shift", type=float, default=3.0)
    parser.add_argument("--solver", default="euler", choices=("euler", "unipc", "dpm++"))
    parser.add_argument("--rounds", type=int, default=3, help="clips per combination and language (default: 3)")
    parser.add_argument(
        "--training", action="store_true", help="on the combinations of the training, to choose settings"
    )
    parser.add_argument(
        "--dit", type=Path, default=FILES / "wan_reference_dit_f16.gguf", help="transformer to evaluate"
    )
    parser.add_argument("--low-noise", type=Path, help="second expert, for the steps below sigma 0.875")
    parser.add_argument("--sheet", type=Path, help="write example clips to this PNG")
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    a = parser.parse_args()
    pack = Pack(a.dit, a.low_noise)
    combinations = TRAINING[::4] if a.training else HELD_OUT
    for cfg in a.cfg:
        begin = time.perf_counter()
        settings = {"steps": a.steps, "cfg": cfg, "shift": a.shift, "solver": a.solver}
        result = evaluate(pack, combinations, a.rounds, settings, a.sheet)
        if a.json:
            print(json.dumps(result), flush=True)
            continue
        for key in [k for k, v in result.items() if isinstance(v, dict)]:
            row = "  ".join(f"{name} {100 * value:5.1f} %" for name, value in result[key].items())
            print(f"cfg {cfg:g}  {key:22s} {row}", flush=True)
        seconds = time.perf_counter() - begin
        print(f"cfg {cfg:g}  agreement of the languages {100 * result['agreement']:.1f} %  ({seconds:.0f} s, {DEVICE})")


if __name__ == "__main__":
    main()
