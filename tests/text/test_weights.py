"""Prompt weights: the grammar case by case, leniency, refusals, and properties over arbitrary text."""

import itertools
import math
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wan_gguf.text.clean import clean_prompt
from wan_gguf.text.weights import WeightedSpan, parse_weights


def parsed(text):
    return [(span.text, span.weight) for span in parse_weights(text)]


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("a red circle", [("a red circle", 1.0)]),
        ("(red:1.2)", [("red", 1.2)]),
        ("a (red:1.2) circle", [("a ", 1.0), ("red", 1.2), (" circle", 1.0)]),
        ("（红色：1.2）的圆", [("红色", 1.2), ("的圆", 1.0)]),
        ("(红色：1.2)的圆", [("红色", 1.2), ("的圆", 1.0)]),
        ("（红色:1.2)的圆", [("红色", 1.2), ("的圆", 1.0)]),
        ("（红色：１．２）", [("红色", 1.2)]),
        ("(red)", [("red", 1.1)]),
        ("(red: 0.5 )", [("red", 0.5)]),
        ("(red:.5)", [("red", 0.5)]),
        ("(red:2.)", [("red", 2.0)]),
        ("(red:1e-1)", [("red", 0.1)]),
        ("(red:0)", [("red", 0.0)]),
        ("(red:10)", [("red", 10.0)]),
        ("(a: b:1.5)", [("a: b", 1.5)]),
        ("(red:1.2)(blue:1.2)", [("redblue", 1.2)]),
        ("(red:1.0) circle", [("red circle", 1.0)]),
        ("", []),
        ("()", []),
        ("( ) (:1.0)", [(":1.0", 1.1)]),
    ],
)
def test_weights(text, spans):
    assert parsed(text) == spans


def test_nested_weights_multiply():
    assert parsed("((a:1.5) b:2)") == [("a", 3.0), (" b", 2.0)]
    ((text, weight),) = parsed("((red))")
    assert text == "red"
    assert weight == pytest.approx(1.21)
    assert parsed("(a (b:0.5) c:2) d") == [("a ", 2.0), ("b", 1.0), (" c", 2.0), (" d", 1.0)]
    assert parsed("（（甲：1.5）乙：2）") == [("甲", 3.0), ("乙", 2.0)]


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        (r"a \(red:1.2\) circle", [("a (red:1.2) circle", 1.0)]),
        (r"\（红色：1.2\）", [("（红色：1.2）", 1.0)]),
        (r"(a \(b\):1.5)", [("a (b)", 1.5)]),
        (r"(a\):1.5)", [("a)", 1.5)]),
        (r"C:\dir\n \\ (x:2)", [(r"C:\dir\n \\ ", 1.0), ("x", 2.0)]),
        (r"\\(a\\)", [(r"\(a\)", 1.0)]),  # as in the host: the backslash next to the bracket counts
        ("a\\", [("a\\", 1.0)]),
    ],
)
def test_escapes(text, spans):
    assert parsed(text) == spans


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("(a", [("(a", 1.0)]),
        ("a)", [("a)", 1.0)]),
        (":) a (red:1.2) circle", [(":) a ", 1.0), ("red", 1.2), (" circle", 1.0)]),
        ("(a (b:1.5) c", [("(a ", 1.0), ("b", 1.5), (" c", 1.0)]),
        ("((a:1.5)", [("(", 1.0), ("a", 1.5)]),
        ("(a:1.5))", [("a", 1.5), (")", 1.0)]),
        (")(", [(")(", 1.0)]),
        ("（a", [("（a", 1.0)]),
    ],
)
def test_unpaired_brackets_are_text(text, spans):
    assert parsed(text) == spans


@pytest.mark.parametrize(
    ("text", "inner"),
    [
        ("(red:abc)", "red:abc"),
        ("(red:)", "red:"),
        ("(red:1,2)", "red:1,2"),
        ("(red:1.2.3)", "red:1.2.3"),
        ("(red:0x10)", "red:0x10"),
        ("(red:1_0)", "red:1_0"),
        ("(red:１２個)", "red:１２個"),
        (":3", None),
        ("(:3)", ":3"),
        ("(at 10:30)", "at 10:30"),
        ("（上午 10：30）", "上午 10：30"),
        ("(16:9)", "16:9"),
        ("(3:1)", "3:1"),
        ("(10:30:15)", "10:30:15"),
        (r"(red:1\))", r"red:1)"),
    ],
)
def test_what_is_no_weight_stays_text_in_plain_brackets(text, inner):
    assert parsed(text) == ([(inner, 1.1)] if inner else [(text, 1.0)])


def test_a_time_without_brackets_is_text_and_a_decimal_after_a_digit_is_a_weight():
    assert parsed("at 10:30, (dusk:1.2)") == [("at 10:30, ", 1.0), ("dusk", 1.2)]
    assert parsed("(pose 2:1.0)") == [("pose 2", 1.0)]
    assert parsed("(at 10:30:1.2)") == [("at 10:30", 1.2)]


@pytest.mark.parametrize(
    ("text", "position", "found"),
    [
        ("(red:nan)", 6, "got nan"),
        ("a (red:inf) b", 8, "got inf"),
        ("(red:-Infinity)", 6, "got -Infinity"),
        ("(red:1e9)", 6, "got 1e9"),
        ("(red:10.01)", 6, "got 10.01"),
        ("(red:-0.5)", 6, "got -0.5"),
        ("（红色：ｎａｎ）", 5, "got nan"),
        ("(Blade Runner: 2049)", 15, "got 2049"),
        ("((a:5):5)", 2, "the nested brackets multiply to 25"),
        ("(a (b:4):4)", 4, "the nested brackets multiply to 16"),
        ("(red:" + "9" * 400 + ")", 6, "got " + "9" * 20),
    ],
)
def test_weights_out_of_range_are_refused(text, position, found):
    with pytest.raises(ValueError) as error:
        parse_weights(text)
    message = str(error.value)
    assert message.startswith(f"prompt weight at character {position} must be from 0 to 10, {found}: ")
    assert message.endswith(r"change the number, or write \( and \) for literal brackets")
    assert len(message) < 250


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("a (red:1.3) circle", "一个（红色：1.3）圆"),
        ("a ((red) bright:1.3) circle", "一个（（红色）明亮的：1.3）圆"),
        ("(at 10:30) a circle", "（在10：30）一个圆"),
        ("(red circle", "（红色圆"),
        ("(red:abc) circle", "（红色：甲乙）圆"),
        (r"\(red\) circle", r"\（红色\）圆"),
    ],
)
def test_english_and_chinese_are_treated_alike(english, chinese):
    for prepare in (str, clean_prompt):
        weights = [[span.weight for span in parse_weights(prepare(text))] for text in (english, chinese)]
        assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("typed", "joined"),
    [
        ("a ( red :1.2) circle", "a red circle"),
        ("a(red:1.2)circle", "aredcircle"),
        ("( red )  ( blue )", "red blue"),
        ("（ 红色：1.2 ），圆", "红色,圆"),
        ("a () b", "a b"),
        ("  a\n(b:2) \n ", "a b"),
        ("Tom &amp; (Jerry:1.2)", "Tom & Jerry"),
    ],
)
def test_joined_spans_are_the_cleaned_text_without_the_syntax(typed, joined):
    assert "".join(span.text for span in parse_weights(clean_prompt(typed))) == joined


@pytest.mark.parametrize(
    "text",
    [
        "a red circle",
        "a (red:1.2) circle on (grey), (soft light:0.8)",
        "((red)) circle, (((very red))) square",
        "(a (b) c) d",
        "(red:abc) and (red:) and (:1.2)",
        r"\(red\) (a \(b\):1.5) \\(c\\)",
        "(a",
        "a (b:1.2) (c",
        "(一只猫:1.3)在(草地)上",
    ],
)
def test_common_text_means_what_it_means_in_the_host(text, host_dir):
    from comfy.sd1_clip import escape_important, token_weights, unescape_important

    theirs = [(unescape_important(part), weight) for part, weight in token_weights(escape_important(text), 1.0)]
    joined = [("".join(part for part, _ in run), weight) for weight, run in itertools.groupby(theirs, lambda t: t[1])]
    assert parsed(text) == joined


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.characters(exclude_characters="()（）")))
def test_text_without_brackets_is_the_cleaned_text(text):
    cleaned = clean_prompt(text)
    if not set(cleaned) & set("()（）"):  # cleaning can make brackets: from entities
        assert parsed(cleaned) == ([(cleaned, 1.0)] if cleaned else [])


SYNTAX = st.text(alphabet="()（）:：\\ \t1.20e-naif红bc", max_size=80)


@settings(max_examples=1000, deadline=None)
@given(st.text() | SYNTAX)
@example("(" * 50)
@example("\\")
@example("(\\")
def test_any_text_parses_or_is_refused_clearly(text):
    try:
        spans = parse_weights(text)
    except ValueError as error:
        assert str(error).startswith("prompt weight at character ")
        return
    assert all(math.isfinite(span.weight) and 0 <= span.weight <= 10 for span in spans)
    assert all(span.text for span in spans)
    assert all(one.weight != two.weight for one, two in itertools.pairwise(spans))
    joined = "".join(span.text for span in spans)
    assert joined == joined.strip()
    remaining = iter(text)
    assert all(char in remaining for char in joined)  # characters are dropped, never made or moved


@settings(max_examples=500, deadline=None)
@given(SYNTAX)
def test_full_width_syntax_means_the_same_as_ascii(text):
    folded = text.replace("（", "(").replace("）", ")").replace("：", ":")
    try:
        expected = parsed(folded)
    except ValueError:
        with pytest.raises(ValueError, match="prompt weight"):
            parse_weights(text)
        return
    found = parsed(text)
    assert [weight for _, weight in found] == [weight for _, weight in expected]
    fold = str.maketrans("（）：", "():")
    assert [part.translate(fold) for part, _ in found] == [part for part, _ in expected]


WORDS = st.text(alphabet="ab红色 ()（）:：.12", min_size=1, max_size=12).filter(lambda t: t == " ".join(t.split()))
WEIGHTS = st.integers(0, 1000).map(lambda hundredths: hundredths / 100)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(WORDS, WEIGHTS), max_size=8), st.booleans())
def test_spans_written_out_and_parsed_again_are_the_same(pairs, full_width):
    pairs = [pair for i, pair in enumerate(pairs) if i == 0 or pair[1] != pairs[i - 1][1]]
    opening, colon, closing = "（：）" if full_width else "(:)"

    def escape(text):
        return "".join("\\" + char if char in "()（）" else char for char in text)

    written = "".join(f"{opening}{escape(text)}{colon}{weight:.2f}{closing}" for text, weight in pairs)
    assert parsed(written) == pairs


@pytest.mark.parametrize(
    "text",
    [
        "(" * 200_000,
        ")" * 200_000,
        "(" * 100_000 + "a" + ")" * 100_000 + ":",
        "(a:" * 100_000,
        "((a:1)" * 50_000,
        "(a:1.0" * 50_000 + ")" * 50_000,
        "(a:" + "1" * 200_000 + "x)",
        "(a:" + " " * 200_000 + ")",
        "\\" * 200_000,
        "\\(" * 100_000,
        "a:" * 100_000,
    ],
    ids=lambda text: f"{text[:8]!r} x {len(text)}",
)
def test_repetitive_text_takes_linear_time(text):
    start = time.process_time()
    try:
        parse_weights(text)
    except ValueError as error:
        assert len(str(error)) < 250
    assert time.process_time() - start < 5  # 0.2 s on one slow core; quadratic time would be minutes


def test_spans_are_values():
    assert WeightedSpan("a", 1.0) == WeightedSpan("a", 1.0)
    with pytest.raises(AttributeError):
        WeightedSpan("a", 1.0).weight = 2.0
