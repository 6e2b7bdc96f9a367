"""The prompts of `quality.py`, half English and half Chinese, with their seeds: the same for every type, every time.

Like evaluate.py of the reference model: combinations of attributes that no training saw, every third pair of
batches in phrasings that no training saw, the default negative prompt of the language.
"""

from dataclasses import asdict, dataclass

import numpy as np

from captions import LANGUAGES, UNSEEN, caption, mentions_background
from wan_gguf.benchmarks.quality import BATCH
from wan_gguf.text.negative import resolve_negative
from world import HELD_OUT, Combination

FIRST_SEED = 1000
__all__ = ["Batch", "batches", "mentions_background"]


@dataclass(frozen=True)
class Batch:
    """Prompts that are sampled together, in one language; prompt i gets the i-th share of the seed's noise."""

    language: str
    prompts: tuple[str, ...]
    wanted: tuple[Combination, ...]
    negative: str
    seed: int

    def record(self) -> dict:
        """Everything in it, ready for JSON."""
        return asdict(self)


def batches(n_prompts: int) -> list[Batch]:
    """English and Chinese in turn; a pair asks for the same combinations, from different noise."""
    return [_batch(pair, language) for pair in range(n_prompts // (2 * BATCH)) for language in LANGUAGES]


def _batch(pair: int, language: str) -> Batch:
    wanted = tuple(HELD_OUT[(pair * BATCH + i) % len(HELD_OUT)] for i in range(BATCH))
    at = LANGUAGES.index(language)
    rng = np.random.default_rng([pair, at])
    phrasings = UNSEEN if pair % 3 == 2 else None
    prompts = tuple(caption(combination, language, rng, phrasings) for combination in wanted)
    negative = resolve_negative("", prompts[0], "prompt language")
    return Batch(language, prompts, wanted, negative, FIRST_SEED + len(LANGUAGES) * pair + at)
