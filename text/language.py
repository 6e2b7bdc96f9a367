"""The language of a prompt as a whole, English or Chinese: it picks the default negative prompt and is shown.

    zh  if  Han characters > words in other alphabetic scripts + 2 * kana + Hangul syllables

One Han character counts as much as one word: Chinese words have one or two characters, so a mixed prompt goes to the
language that says more. Kana count twice because Japanese is full of Han characters. All the rest is "en": ties, empty
text, digits, emoji, and other languages (the encoder reads them; only the default negative prompt is then English).
"""

import re
from typing import Literal

from .clean import clean_prompt

Language = Literal["en", "zh"]

_HAN = re.compile(r"[\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
_KANA = re.compile(r"[\u3041-\u3096\u30a1-\u30fa\uff66-\uff9d]")
_HANGUL = re.compile(r"[\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3]")
# A run of letters of any script but these, apostrophes and hyphens inside included: "don't", "red-hot", "круг".
_EAST_ASIAN = (
    r"\u1100-\u11ff\u3005-\u3007\u3041-\u318e\u3400-\u4dbf\u4e00-\u9fff"
    r"\uac00-\ud7a3\uf900-\ufaff\uff66-\uff9d\U00020000-\U000323af"
)
_WORD = re.compile(rf"(?:(?![{_EAST_ASIAN}])[^\W\d_])(?:(?![{_EAST_ASIAN}])[^\W\d_]|['’\-])*")


def detect_language(text: str) -> Language:
    """Prompt, as typed or cleaned, -> "zh" or "en"; see the module for mixed prompts and other languages."""
    text = clean_prompt(text)
    han, kana, hangul, words = (len(pattern.findall(text)) for pattern in (_HAN, _KANA, _HANGUL, _WORD))
    return "zh" if han > words + 2 * kana + hangul else "en"
