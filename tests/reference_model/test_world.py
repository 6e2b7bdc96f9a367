"""The world can be read back: drawn clips, judged from their pixels, and captions that name what they must."""

from collections import Counter

import numpy as np


def test_a_fifth_of_the_combinations_is_held_out_evenly():
    from world import COMBINATIONS, HELD_OUT, TRAINING

    assert len(HELD_OUT) == round(len(COMBINATIONS) / 5)
    assert not set(HELD_OUT) & set(TRAINING)
    for attribute in ("shape", "color", "direction", "background"):
        held_out, all_of_them = (Counter(getattr(c, attribute) for c in cs) for cs in (HELD_OUT, COMBINATIONS))
        shares = [held_out[value] / all_of_them[value] for value in all_of_them]
        assert min(shares) > 0.14
        assert max(shares) < 0.28


def test_the_judge_reads_every_combination_through_noise():
    from judge import judge
    from world import COMBINATIONS, draw_clip

    rng = np.random.default_rng(0)
    for combination in COMBINATIONS:
        frames = draw_clip(combination, rng)[0]
        assert frames.shape == (17, 64, 64, 3)
        verdict = judge(np.clip(frames + rng.normal(0, 0.05, frames.shape), 0, 1))
        assert {name: getattr(verdict, name) for name in vars(combination)} == vars(combination)


def test_the_judge_sees_nothing_in_an_empty_or_still_picture():
    from judge import judge
    from world import Combination, draw_clip

    empty = judge(np.full((17, 64, 64, 3), 0.45, dtype=np.float32))
    assert (empty.shape, empty.color, empty.direction, empty.background) == (None, None, None, "gray")
    moving = draw_clip(Combination("square", "red", "left", "black"), np.random.default_rng(1))[0]
    still = judge(np.repeat(moving[8:9], 17, axis=0))
    assert (still.shape, still.direction) == ("square", None)


def test_captions_name_all_they_should_and_unseen_phrasings_are_unseen():
    from captions import LANGUAGES, UNSEEN, WORDS, caption
    from world import HELD_OUT

    rng = np.random.default_rng(2)
    for combination in HELD_OUT:
        for language in LANGUAGES:
            seen = {caption(combination, language, rng) for _ in range(8)}
            unseen = caption(combination, language, rng, UNSEEN)
            assert unseen not in seen
            for text in (*seen, unseen):
                for value in (combination.shape, combination.color, combination.direction):
                    assert any(form in text for form in WORDS[language][value]), (text, value)
