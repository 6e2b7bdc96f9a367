"""Names for new files: a name alone, never a way to another folder, and one that every system takes."""

import re

MAX_NAME_BYTES = 200  # file systems take 255, and endings such as .gguf.part come on top

_NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)  # on Windows


def validate_file_name(name: str) -> str:
    """Return `name` if a file can have it on every system. Raises ValueError."""
    forbidden = _NOT_IN_NAMES.search(name)
    if forbidden:
        raise ValueError(f"must be a name without folders and without {forbidden[0]!r}, got {_shown(name)}")
    try:
        n_bytes = len(name.encode("utf-8"))
    except UnicodeEncodeError:  # half of a surrogate pair
        raise ValueError(f"must be valid Unicode, got {_shown(name)}") from None
    if not name or name != name.strip(" .") or _RESERVED.fullmatch(name):
        raise ValueError(f"must be a name that every system takes, got {_shown(name)}; choose another")
    if n_bytes > MAX_NAME_BYTES:
        raise ValueError(f"must have {MAX_NAME_BYTES} bytes in UTF-8 or fewer, got {n_bytes}; choose a shorter name")
    return name


def _shown(name: str) -> str:
    shown = repr(name)
    return shown if len(shown) <= 60 else f"{shown[:56]} ..."
