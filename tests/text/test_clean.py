"""Cleaning: what the official code makes of each kind of mess, and the official sequence of calls itself."""

import html
import unicodedata

import ftfy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_gguf.text.clean import clean_prompt
from wan_gguf.text.negative import DEFAULT_NEGATIVES


@pytest.mark.parametrize(
    ("typed", "cleaned"),
    [
        ("", ""),
        (" \t\n\u3000\xa0 ", ""),
        ("a  red\tcircle\r\n moves\u2028left ", "a red circle moves left"),
        ("一只猫，\n\n在草地上。", "一只猫, 在草地上。"),
        ("（红色：1.2）的圆", "(红色:1.2)的圆"),
        ("ＡＢＣ１２３！？", "ABC123!?"),
        ("“quoted” ‘text’", "\"quoted\" 'text'"),
        ("ﬁsh and ﬂowers", "fish and flowers"),
        ("cafe\u0301", "café"),
        ("cafÃ© in spring", "café in spring"),
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("Tom &amp;amp; Jerry", "Tom & Jerry"),
        ("1 &lt; 2 &nbsp; 3", "1 < 2 3"),
        ("\x1b[31mred\x1b[0m \x00circle", "red circle"),
        ("a cat 🐱", "a cat 🐱"),
        ("\ud83d\udc31", "🐱"),
    ],
)
def test_clean(typed, cleaned):
    assert clean_prompt(typed) == cleaned


def test_the_chinese_default_negative_loses_its_full_width_commas_only():
    official = DEFAULT_NEGATIVES["zh"]
    assert clean_prompt(official) == official.replace("，", ",")


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_equals_the_official_sequence_of_calls(text):
    regex = pytest.importorskip("regex", reason="comes with transformers")
    expected = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    assert clean_prompt(text) == regex.sub(r"\s+", " ", expected).strip()


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_result_is_stripped_and_has_single_spaces(text):
    cleaned = clean_prompt(text)
    assert cleaned == " ".join(cleaned.split())


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="abc 红色的圆，。（）：12.!?\n", max_size=60))
def test_ordinary_text_is_stable_under_a_second_cleaning(text):
    cleaned = clean_prompt(text)
    assert clean_prompt(cleaned) == cleaned == unicodedata.normalize("NFC", cleaned)
