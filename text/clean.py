"""Prompt cleaning as the Wan models were trained with it.

Source: `basic_clean` and `whitespace_clean` in wan/modules/tokenizers.py of Wan2.2: ftfy.fix_text with its default
options, html.unescape twice, whitespace runs to one space, ends stripped. The defaults of ftfy matter:

* full-width forms become ASCII: `（红色：1.2）` -> `(红色:1.2)`, `，` -> `,`, `３` -> `3` (`。` and `、` stay). The
  models know Chinese with folded punctuation, the official Chinese negative prompt included, so we fold as well;
* wrongly decoded text (mojibake) is repaired, curly quotes become straight, ligatures are split, terminal escapes and
  control characters go, the result is NFC.
"""

import html
import re

import ftfy

_WHITESPACE = re.compile(r"\s+")


def clean_prompt(text: str) -> str:
    """Prompt as typed -> prompt as the tokenizer gets it. Clean once: each time undoes two layers of `&amp;amp;`."""
    unescaped = html.unescape(html.unescape(ftfy.fix_text(text)))
    return _WHITESPACE.sub(" ", unescaped.strip()).strip()
