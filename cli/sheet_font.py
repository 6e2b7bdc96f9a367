"""A font that can write the title of a contact sheet: Pillow's own for Latin text, else one of the system's.

Pillow brings no Chinese letters, and a font of our own would be larger than the rest of the pack. Windows and macOS
have such fonts always, Linux mostly (Noto Sans CJK, WenQuanYi, Droid Sans Fallback). Pillow looks for the file names
below in the folders where each system keeps its fonts.
"""

import functools
from collections.abc import Iterator

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
CHINESE = (
    *("msyh.ttc", "simsun.ttc"),  # Windows: Microsoft YaHei, SimSun
    *("PingFang.ttc", "Hiragino Sans GB.ttc", "STHeiti Light.ttc"),  # macOS
    *("NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "SourceHanSansSC-Regular.otf"),
    *("wqy-microhei.ttc", "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf", "DroidSansFallback.ttf"),
)
SIZE_PX = 12
_NO_LETTER = "\uffff"  # no font has it, so it is drawn as the sign for a missing letter


def title_font(text: str) -> Font | None:
    """A font with every letter of the text; None if this machine has none that is known here."""
    return next((font for font in _fonts() if not missing(font, text)), None)


def missing(font: Font, text: str) -> set[str]:
    """The letters that the font draws as its sign for a missing one."""
    sign = bytes(font.getmask(_NO_LETTER))
    return {letter for letter in text if not letter.isspace() and bytes(font.getmask(letter)) == sign}


def _fonts() -> Iterator[Font]:
    yield ImageFont.load_default()
    for name in CHINESE:
        font = _of_the_system(name)
        if font is not None:
            yield font


@functools.cache
def _of_the_system(name: str) -> Font | None:
    try:
        return ImageFont.truetype(name, SIZE_PX)
    except OSError:
        return None
