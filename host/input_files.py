"""Files that the user put into the host's input folder."""

from pathlib import Path

import folder_paths


def list_input_files(endings: tuple[str, ...]) -> list[str]:
    """Names with one of the endings, relative to the folder and with / in between, subfolders included."""
    names, _ = folder_paths.recursive_search(folder_paths.get_input_directory())
    return sorted(Path(name).as_posix() for name in names if name.lower().endswith(endings))


def input_file(name: str) -> Path:
    """The file of that name. Raises ValueError (outside of the folder) or FileNotFoundError."""
    folder = Path(folder_paths.get_input_directory()).resolve()
    path = (folder / name).resolve()  # links followed
    if not path.is_relative_to(folder):
        raise ValueError(f"'{name}' is not inside of the input folder; choose a file from the list")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file '{name}' in the input folder; put it there and press R")
    return path
