"""Captions of the reference model's world in natural English and Chinese, by grammar.

Each language has phrasings used in training and a few kept for evaluation only. A caption may leave the background out.
The texts that stand for "nothing asked" (empty, and the default negative prompts of both languages) are part of the
training, so that classifier-free guidance has a trained unconditional side for each of them.
"""

import numpy as np

from wan_gguf.text.clean import clean_prompt
from wan_gguf.text.negative import DEFAULT_NEGATIVES
from world import Combination

LANGUAGES = ("en", "zh")

WORDS = {
    "en": {
        "circle": ("circle", "circle", "disc"),
        "square": ("square",),
        "triangle": ("triangle",),
        "red": ("red",),
        "green": ("green",),
        "blue": ("blue",),
        "yellow": ("yellow",),
        "purple": ("purple", "purple", "violet"),
        "white": ("white",),
        "left": ("left", "to the left", "leftward", "leftwards"),
        "right": ("right", "to the right", "rightward", "rightwards"),
        "up": ("up", "upward", "upwards", "to the top"),
        "down": ("down", "downward", "downwards", "to the bottom"),
        "black": ("black", "black", "dark"),
        "gray": ("gray", "grey"),
    },
    "zh": {
        "circle": ("圆形", "圆形", "圆", "圆圈"),
        "square": ("正方形", "方形", "方块"),
        "triangle": ("三角形", "三角形", "三角"),
        "red": ("红色", "红"),
        "green": ("绿色", "绿"),
        "blue": ("蓝色", "蓝"),
        "yellow": ("黄色", "黄"),
        "purple": ("紫色", "紫"),
        "white": ("白色", "白"),
        "left": ("向左", "往左", "向左边"),
        "right": ("向右", "往右", "向右边"),
        "up": ("向上", "往上", "向上方"),
        "down": ("向下", "往下", "向下方"),
        "black": ("黑色", "黑色", "深色"),
        "gray": ("灰色",),
    },
}
BARE = {
    "en": (
        "a {c} {s} moves {d}",
        "a {c} {s} moving {d}",
        "a {c} {s} is moving {d}",
        "the {c} {s} slides {d}",
        "a {s} that is {c} travels {d}",
        "{c} {s}, moving {d}",
        "a {c} {s} drifts {d}",
        "a video of a {c} {s} going {d}",
        "one {c} {s} goes {d}",
        "a {c} colored {s} floats {d}",
    ),
    "zh": (
        "一个{c}的{s}{d}移动",
        "一个{c}{s}{d}移动",
        "{c}的{s}正在{d}移动",
        "{c}{s}，{d}移动",
        "一个{c}的{s}{d}滑动",
        "画面中一个{c}的{s}{d}运动",
        "一个{c}的{s}缓缓{d}移动",
        "视频里，{c}的{s}{d}走",
        "有一个{c}的{s}，它{d}移动",
        "一个{s}{d}移动，颜色是{c}",
    ),
}
GROUNDED = {
    "en": (
        "{bare} on a {b} background",
        "{bare}, {b} background",
        "on a {b} background, {bare}",
        "{bare} across a {b} background",
        "{bare} in front of a {b} background",
        "the background is {b}, {bare}",
    ),
    "zh": (
        "{bare}，{b}背景",
        "{b}背景上，{bare}",
        "在{b}背景上，{bare}",
        "{bare}，背景是{b}",
        "{b}的背景前，{bare}",
        "背景为{b}，{bare}",
    ),
}
# kept out of the training: one set to steer the text stage by, one that only evaluate.py uses
PROBE = {
    "en": ("there is a {c} {s} and it moves {d}, {b} background", "watch the {c} {s} as it goes {d}"),
    "zh": ("这个{s}是{c}的，它{d}移动，背景是{b}", "看，一个{c}的{s}{d}走"),
}
UNSEEN = {
    "en": (
        "please show me a {s}, painted {c}, that travels {d} over {b}",
        "here we see how some {c} {s} keeps moving {d} with {b} behind it",
        "A {c} {s} heads {d}.",
    ),
    "zh": (
        "请画一个涂成{c}的{s}，让它{d}前进，后面是{b}的",
        "我想看到{c}的{s}在{b}的画面里一直{d}移动",
        "{s}是{c}的，正在{d}飞。",
    ),
}
# words for an attribute that is None: they say nothing about it
UNSAID = {
    "en": {"color": ("plain", "flat"), "shape": ("shape", "figure"), "direction": ("around", "somewhere")},
    "zh": {"color": ("某种颜色", "有色"), "shape": ("图形", "形状"), "direction": ("来回", "慢慢")},
}
NOTHING = ("", *(clean_prompt(text) for text in DEFAULT_NEGATIVES.values()))


def caption(combination: Combination, language: str, rng: np.random.Generator, phrasings: dict | None = None) -> str:
    """One caption, cleaned as prompts are; `phrasings` (PROBE or UNSEEN) replaces those of the training."""
    words = {name: str(rng.choice(forms)) for name, forms in WORDS[language].items()}
    slots = {
        "c": words[combination.color] if combination.color else str(rng.choice(UNSAID[language]["color"])),
        "s": words[combination.shape] if combination.shape else str(rng.choice(UNSAID[language]["shape"])),
        "d": words[combination.direction] if combination.direction else str(rng.choice(UNSAID[language]["direction"])),
        "b": words[combination.background],
    }
    if phrasings:
        return clean_prompt(str(rng.choice(phrasings[language])).format(**slots))
    bare = str(rng.choice(BARE[language])).format(**slots)
    if rng.random() < 0.35:
        return clean_prompt(bare)
    return clean_prompt(str(rng.choice(GROUNDED[language])).format(bare=bare, **slots))


def mentions_background(text: str) -> bool:
    return "background" in text or "背景" in text
