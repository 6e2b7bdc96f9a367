"""Default negative prompts and the policies that pick them."""

import pytest

from wan_gguf.text.clean import clean_prompt
from wan_gguf.text.language import detect_language
from wan_gguf.text.negative import DEFAULT_NEGATIVES, NEGATIVE_POLICIES, resolve_negative
from wan_gguf.text.weights import WeightedSpan, parse_weights

OFFICIAL = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，"
    "丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，"
    "静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)


def test_chinese_default_is_the_official_string():
    assert DEFAULT_NEGATIVES["zh"] == OFFICIAL


def test_english_default_translates_every_item():
    chinese, english = DEFAULT_NEGATIVES["zh"].split("，"), DEFAULT_NEGATIVES["en"].split(", ")
    assert len(english) == len(chinese) == len(set(english))
    pairs = dict(zip(chinese, english, strict=True))
    assert pairs["JPEG压缩残留"] == "JPEG artifacts"
    assert pairs["三条腿"] == "three legs"
    assert pairs["倒着走"] == "walking backwards"
    assert DEFAULT_NEGATIVES["en"].isascii()


@pytest.mark.parametrize("language", DEFAULT_NEGATIVES)
def test_defaults_are_in_their_language_and_carry_no_weights(language):
    default = DEFAULT_NEGATIVES[language]
    assert detect_language(default) == language
    assert parse_weights(clean_prompt(default)) == [WeightedSpan(clean_prompt(default), 1.0)]


@pytest.mark.parametrize(
    ("prompt", "policy", "expected"),
    [
        ("a red circle", "prompt language", "en"),
        ("红色的圆", "prompt language", "zh"),
        ("a red circle", "chinese", "zh"),
        ("红色的圆", "chinese", "zh"),
        ("a red circle", "english", "en"),
        ("红色的圆", "english", "en"),
    ],
)
@pytest.mark.parametrize("blank", ["", " \n\u3000"])
def test_blank_negative_takes_the_default(prompt, policy, expected, blank):
    assert resolve_negative(blank, prompt, policy) == DEFAULT_NEGATIVES[expected]


def test_none_leaves_a_blank_negative_empty():
    assert resolve_negative(" ", "红色的圆", "none") == ""


@pytest.mark.parametrize("policy", NEGATIVE_POLICIES)
def test_a_negative_of_ones_own_is_never_touched(policy):
    assert resolve_negative(" (blurry:1.3) ", "红色的圆", policy) == " (blurry:1.3) "


def test_unknown_policy_is_refused():
    with pytest.raises(
        ValueError, match="default negative must be one of prompt language, chinese, english, none, got 'de"
    ):
        resolve_negative("", "a", "deutsch")
