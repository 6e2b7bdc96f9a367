r"""Prompt weights in ASCII and full-width brackets, in any mix: `(red:1.2)`, `（红色：1.2）`, `(红色：1.2)`.

    (text:1.2)     text with weight 1.2          (text)    text with weight 1.1
    ((a:1.2) b:2)  nested weights multiply       \( \)     literal brackets

Order: `parse_weights(clean_prompt(text))`. Cleaning needs the whole text (it repairs wrong encodings, joins accents,
collapses spaces), so pieces cleaned one by one would give other tokens; and it folds full-width forms, after which one
syntax is left. The spans joined are what the tokenizer gets: the cleaned text without its weight syntax. Full-width
brackets are read here all the same, so text that was never cleaned has the same weights.

Weights go from 0 to 10, products of nested ones included; beyond, and for nan and inf, parsing raises. What is not
quite a weight is text:

* a bracket without a partner is a literal character; the brackets inside and after it still count;
* a tail that is no number keeps its colon and the group counts as plain: `(red:abc)` is "red:abc" x 1.1;
* a whole number after digit and colon is a time or a ratio: `(at 10:30)`, `(16:9)` are plain; `(pose 2:1.0)` is not;
* a backslash means something only directly before a bracket.

Different from the host on purpose: there an inner number replaces an outer weight, here they multiply; there one stray
bracket can switch off every weight of the text, here the others stay; there a time is a weight of 30, and nan a weight.
"""

import itertools
import math
import operator
import re
import unicodedata
from dataclasses import dataclass

PLAIN_WEIGHT = 1.1
MIN_WEIGHT, MAX_WEIGHT = 0.0, 10.0

_OPEN, _CLOSE, _COLON = "(（", ")）", ":："
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class WeightedSpan:
    """A run of text and the weight its tokens get; 1.0 is neutral."""

    text: str
    weight: float


@dataclass(frozen=True)
class _Group:
    """A bracket pair, as indices. `text_end` is where its text ends: at the weight's colon or the closing bracket."""

    start: int
    text_end: int
    end: int
    weight: float


def parse_weights(text: str) -> list[WeightedSpan]:
    """Prompt -> spans without the weight syntax, in order, neighbours differing in weight; none for a blank text.

    Spaces that meet where a bracket goes become one, and the ends are stripped, as cleaning would do. Time is linear in
    the length. Raises ValueError, naming the character (from 1), for a weight outside 0 to 10.
    """
    groups = _find_groups(text)
    inside: list[_Group] = []
    weights = [1.0]
    chars: list[tuple[str, float]] = []
    i = 0
    while i < len(text):
        if inside and i == inside[-1].text_end:
            weights.pop()
            i = inside.pop().end + 1
        elif i in groups:
            inside.append(groups[i])
            weights.append(_multiply(text, groups[i], weights[-1]))
            i += 1
        else:
            i += _is_escape(text, i)
            if not text[i].isspace() or (chars and not chars[-1][0].isspace()):
                chars.append((text[i], weights[-1]))
            i += 1
    if chars and chars[-1][0].isspace():
        chars.pop()
    return _join(chars)


def _find_groups(text: str) -> dict[int, _Group]:
    """All bracket pairs by the index of their opening bracket; unpaired and escaped brackets are left out."""
    groups: dict[int, _Group] = {}
    open_brackets: list[tuple[int, int | None]] = []  # index, and of the last colon since without a pair behind it
    i = 0
    while i < len(text):
        if _is_escape(text, i):
            i += 1
        elif text[i] in _OPEN:
            open_brackets.append((i, None))
        elif text[i] in _COLON and open_brackets:
            open_brackets[-1] = (open_brackets[-1][0], i)
        elif text[i] in _CLOSE and open_brackets:
            start, colon = open_brackets.pop()
            groups[start] = _read_group(text, start, colon, i)
            if open_brackets:
                open_brackets[-1] = (open_brackets[-1][0], None)
        i += 1
    return groups


def _read_group(text: str, start: int, colon: int | None, end: int) -> _Group:
    """The pair text[start] ... text[end], with the weight behind `colon` if that is one."""
    plain = _Group(start, end, end, PLAIN_WEIGHT)
    if colon is None or colon == start + 1:
        return plain
    number = unicodedata.normalize("NFKC", text[colon + 1 : end]).strip()
    time_or_ratio = text[colon - 1].isdecimal() and number.isdecimal()
    if time_or_ratio or not _NUMBER.fullmatch(number):
        return plain
    weight = float(number)
    if not (math.isfinite(weight) and MIN_WEIGHT <= weight <= MAX_WEIGHT):
        raise ValueError(_range_message(text, start, end, colon + 1, f"got {number[:20]}"))
    return _Group(start, colon, end, weight)


def _multiply(text: str, group: _Group, outer: float) -> float:
    weight = outer * group.weight
    if weight > MAX_WEIGHT:
        found = f"the nested brackets multiply to {weight:.4g}"
        raise ValueError(_range_message(text, group.start, group.end, group.start, found))
    return weight


def _range_message(text: str, start: int, end: int, at: int, found: str) -> str:
    shown = text[start : end + 1] if end - start < 40 else f"{text[start : start + 30]}...{text[end - 7 : end + 1]}"
    return (
        f"prompt weight at character {at + 1} must be from {MIN_WEIGHT:g} to {MAX_WEIGHT:g}, {found}: {shown!r}; "
        r"change the number, or write \( and \) for literal brackets"
    )


def _is_escape(text: str, i: int) -> bool:
    return text[i] == "\\" and text[i + 1 : i + 2] != "" and text[i + 1] in _OPEN + _CLOSE


def _join(chars: list[tuple[str, float]]) -> list[WeightedSpan]:
    """Characters with weights -> spans, neighbours of equal weight in one."""
    return [
        WeightedSpan("".join(char for char, _ in run), weight)
        for weight, run in itertools.groupby(chars, key=operator.itemgetter(1))
    ]
