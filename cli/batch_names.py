"""Ids of nodes as file names: unique even where letter case does not count, and none that means something else.

Ids may be any text: "57:8" in a subgraph, Chinese in a workflow that somebody has written by hand.
"""

import re
import unicodedata
from collections.abc import Iterable

from .input_files import FOLDER, Place, is_reserved

# what else lies in a job's folder
RECORD_NAME, SHEET_NAME = "settings.json", "sheet.png"
_TAKEN = ("settings", "sheet", FOLDER)
_MAX_CHARACTERS, _MAX_BYTES = 60, 180  # with number and ending below every file system's 255 bytes


def names_in_folder(nodes: Iterable[str]) -> dict[str, str]:
    """Id -> name in a job's folder: letters and digits of any script."""
    return _unique(nodes, re.compile(r"[^\w-]"), _TAKEN)


def names_on_server(nodes: Iterable[str]) -> dict[str, str]:
    """Id -> name in the server's output folder: ASCII, whatever its file system."""
    return _unique(nodes, re.compile(r"[^\w-]", re.ASCII))


def _unique(nodes: Iterable[str], odd: re.Pattern, taken: Iterable[str] = ()) -> dict[str, str]:
    used, names = set(taken), {}
    for node in nodes:
        short = odd.sub("_", unicodedata.normalize("NFC", node))[:_MAX_CHARACTERS]
        name = short.encode()[:_MAX_BYTES].decode(errors="ignore") or "_"
        while name.casefold() in used or is_reserved(Place("output", name)):
            name += "_"
        used.add(name.casefold())
        names[node] = name
    return names
