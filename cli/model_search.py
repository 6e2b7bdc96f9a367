"""Where the model files of a record are on this machine, and whether they are the ones it was made with."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .errors import CliError, UsageError
from .model_names import folder_names, model_names
from .output import file_sha256
from .paths import MODEL_FILES


@dataclass(frozen=True)
class Found:
    """`files`: name -> (the host's key, folder in which it is). `changed`: a line for each file that is another one.

    `unknown`: names of which the record has no hash, because a server elsewhere had the files.
    """

    files: dict[str, tuple[str, Path]]
    changed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def find_models(record: dict, models: Path | None, host_dir: Path) -> Found:
    """Look for every model by its name, then by its hash. Raises CliError if there is no file of a name."""
    files: dict[str, tuple[str, Path]] = {}
    changed: list[str] = []
    for name, kind in model_names(record["workflow"]).items():
        if name not in record["models"]:
            raise UsageError(f"the workflow names the file '{name}', which is not among the record's models")
        wanted = record["models"][name]
        places = _places(kind, models, host_dir)
        holding = [place for place in places if (place / name).is_file()]
        if not holding:
            raise CliError(f"{name} is in none of {', '.join(map(str, places))}; name its folder with --models")
        fitting = (place for place in holding if wanted is None or file_sha256(place / name) == wanted)
        right = next(fitting, None)
        if right is None:
            changed.append(f"{name} is not the file the result was made with: {holding[0] / name} has another SHA-256")
        else:
            files[name] = (kind, right)
    unknown = tuple(name for name in files if record["models"][name] is None)
    return Found(files, tuple(changed), unknown)


def _places(kind: str, models: Path | None, host_dir: Path) -> list[Path]:
    """The folders to look in, the bundled one first."""
    roots = [*([models] if models else []), host_dir / "models"]
    below = [root / name for root in roots for name in folder_names(kind)]
    return [MODEL_FILES, *([models] if models else []), *below]


def server_folders(found: Iterable[Found]) -> dict[str, list[Path]]:
    """The host's key -> folders with the files of all records. Raises CliError if the host would take others there."""
    files = [(name, kind, place) for one in found for name, (kind, place) in one.files.items()]
    folders: dict[str, list[Path]] = {}
    for _, kind, place in files:
        if place != MODEL_FILES and place not in folders.setdefault(kind, []):
            folders[kind].append(place)
    for name, kind, place in files:
        searched = [*folders.get(kind, []), MODEL_FILES]  # the pack looks into its own folder last
        first = next(folder for folder in searched if (folder / name).is_file())
        if first != place:
            raise CliError(
                f"{place / name} is meant, but ComfyUI would take {first / name}; check such records one by one, or "
                "give --models a folder without the other file"
            )
    return folders
