"""A line of a terminal that is redrawn in place, and text from elsewhere made fit to be shown.

A line that is as wide as the terminal or wider wraps, and a carriage return leads back to its last row only; so it is
cut before that, by the cells that its characters take there (Unicode Standard Annex 11: wide ones take two).
"""

import os
import shutil
import unicodedata
from typing import TextIO

_WITHOUT_A_SHAPE = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # general categories of what moves a cursor, hides or turns text
_USUAL_COLUMNS = 80
_KEPT = {"\n", "\t", "\u200c", "\u200d"}  # the last two join letters and emoji


class RedrawnLine:
    """Text on a stream that is a terminal: the newest line stays where it is and is replaced."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._cells = 0

    def show(self, text: str) -> None:
        """Put this in the place of what the line holds."""
        self._replace(cut(printable(text), _columns(self._stream) - 1), "")

    def above(self, text: str) -> None:
        """Put a lasting line where the redrawn one is, which begins anew below it."""
        self._replace(printable(text), "\n")
        self._cells = 0

    def leave(self) -> None:
        """What is drawn stays."""
        if self._cells:
            self._stream.write("\n")
            self._stream.flush()
        self._cells = 0

    def _replace(self, text: str, end: str) -> None:
        start, taken = "\r" if self._cells or not end else "", cells(text)
        self._stream.write(start + text + " " * (self._cells - taken) + end)
        self._stream.flush()
        self._cells = taken


def _columns(stream: TextIO) -> int:
    """The terminal's; stdout, whose size Python would tell, may lead to a file."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or _USUAL_COLUMNS
    except (OSError, ValueError):
        return shutil.get_terminal_size((_USUAL_COLUMNS, 24)).columns


def printable(text: str) -> str:
    """The text with `?` for characters a terminal would act on (escapes, text that runs backwards) or not show."""
    return "".join(one if one in _KEPT or unicodedata.category(one) not in _WITHOUT_A_SHAPE else "?" for one in text)


def cells(text: str) -> int:
    """How many columns of a terminal it takes."""
    return sum(map(_cells_of, text))


def cut(text: str, columns: int) -> str:
    """Its beginning, as far as it fits."""
    taken = 0
    for place, one in enumerate(text):
        taken += _cells_of(one)
        if taken > columns:
            return text[:place]
    return text


def _cells_of(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
