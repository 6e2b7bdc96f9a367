"""The title of a contact sheet is written in a font that has its letters, where the machine has one."""

import pytest
from PIL import ImageFont

from wan_gguf.cli import sheet_font
from wan_gguf.cli.sheet_font import missing, title_font


class EveryLetter:
    """Stands for a font of the system that has all letters."""

    def getmask(self, text: str) -> bytes:
        return b"" if text == "\uffff" else text.encode()


@pytest.fixture
def system(monkeypatch):
    """The fonts of this machine: a dictionary of file names."""
    fonts: dict[str, EveryLetter] = {}
    monkeypatch.setattr(sheet_font, "_of_the_system", fonts.get)
    return fonts


def test_latin_text_takes_pillows_own_font(system):
    system["msyh.ttc"] = EveryLetter()
    assert isinstance(title_font("a red circle, left!"), type(ImageFont.load_default()))


def test_chinese_text_takes_the_first_font_that_has_it(system):
    assert title_font("红色 circle") is None
    system["wqy-zenhei.ttc"] = EveryLetter()
    assert title_font("红色 circle") is system["wqy-zenhei.ttc"]


def test_missing_letters_are_found():
    assert missing(ImageFont.load_default(), "a 红b色") == {"红", "色"}


def test_a_font_that_is_not_there_is_none():
    assert sheet_font._of_the_system("no such font.ttc") is None
