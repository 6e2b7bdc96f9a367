"""A filename prefix of Save Video: folders and a name, each of which must be one that a file can have."""

import os

from ..text.file_names import validate_file_name

_NO_NAMES = {"", ".", ".."}  # where they lead is checked with the folders


def check_prefix(filename_prefix: str) -> None:
    """Raise ValueError unless every folder of the prefix and its name can be made on every system.

    The host's variables are looked at as they stand: what it puts in place of %year% or %width% is shorter, and digits.
    """
    for part in filename_prefix.replace(os.sep, "/").split("/"):
        if part not in _NO_NAMES:
            try:
                validate_file_name(part)
            except ValueError as error:
                raise ValueError(f"filename_prefix: each folder and the name {error}{_advice(part)}") from None


def _advice(part: str) -> str:
    if "%date:" in part:  # the interface puts the date in for the host's own nodes only
        return "; write %year%-%month%-%day% in place of %date:...%"
    return "; write / between folders" if "\\" in part else ""
