"""Language of a prompt: clear cases, mixed ones by share, documented defaults for all else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_gguf.text.language import detect_language
from wan_gguf.text.negative import DEFAULT_NEGATIVES

ENGLISH = [
    "a red circle moves left",
    "A cat's red-hot (guitar:1.3), 4k",
    DEFAULT_NEGATIVES["en"],
    "a woman holding a sign that says 你好",
    "A neon sign with the words “欢迎光临” over a bar",
    "x",
    "LED 灯",  # a tie: one word, one character... and en
]
CHINESE = [
    "一个红色的圆向左移动",
    "红",
    DEFAULT_NEGATIVES["zh"],
    "（红色：1.2）的圆，4K，HDR",
    "一只猫在弹guitar，背景是Las Vegas",
    "穿着T恤的女孩在跳舞",
    "優の良品廣告",  # one kana in Chinese text
    "繁體中文也算",
    "𠮷野家",
]
OTHER = [
    "",
    "  \n",
    "1234 56.7",
    "🐱🎬✨",
    "（：）",
    "赤い円が左に動く",
    "東京の夜、雨が降っている街を歩く女性",
    "빨간 원이 왼쪽으로 움직인다",
    "大韓民國의 서울 거리를 걷는 사람",
    "красный круг движется влево",
    "दौड़ता हुआ घोड़ा",
]


@pytest.mark.parametrize("text", ENGLISH)
def test_english(text):
    assert detect_language(text) == "en"


@pytest.mark.parametrize("text", CHINESE)
def test_chinese(text):
    assert detect_language(text) == "zh"


@pytest.mark.parametrize("text", OTHER)
def test_everything_else_is_en_as_documented(text):
    assert detect_language(text) == "en"


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 12), st.integers(0, 12))
def test_mixed_prompts_go_to_the_larger_share(han, words):
    text = "红" * han + " " + "red " * words
    assert detect_language(text) == ("zh" if han > words else "en")


def test_entities_and_wrong_encoding_do_not_count_as_words():
    assert detect_language("红色&nbsp;&nbsp;&nbsp;圆") == "zh"
    assert detect_language("一个红色的圆".encode().decode("latin-1")) == "zh"


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text_has_a_language(text):
    assert detect_language(text) in ("en", "zh")
