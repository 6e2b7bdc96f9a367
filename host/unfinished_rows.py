"""The finished rows of a list that stops, saved: the host keeps what a node returns, and nothing of one that fails.

The files are latents like those that Save Video keeps, so `Wan GGUF Load Latent` or `python3 cli decode` finish them.
Rows that had not passed all their steps are not among them.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import folder_paths

from .latent_file import FINISH, SETTINGS, KeptLatent, keep_latent

FOLDER = ("wan_gguf", "unfinished_list")  # below the host's output folder
_SHOWN_FILES = 20


@dataclass(frozen=True)
class VideoPlan:
    """What the workflow will make of the rows, as far as it is known; it travels in their files.

    `tags` are prompt and workflow, `video` the settings of the file to write, `names` the rows' file names without
    folders, or none at all.
    """

    tags: Mapping[str, Any] = field(default_factory=dict)
    video: Mapping[str, Any] | None = None
    vae_name: str | None = None
    names: Sequence[str | None] = ()


NOTHING_KNOWN = VideoPlan()


@dataclass
class Results:
    """How far a list is: the number of the row that is computed now, and the LATENTs of the finished ones by number."""

    current: int = 1
    finished: dict[int, dict] = field(default_factory=dict)


@contextlib.contextmanager
def kept_if_stopped(n_rows: int, plan: VideoPlan) -> Iterator[Results]:
    """Whatever stops a list of several rows, its finished ones are saved, and the user learns which and where.

    A RuntimeError gets that into its text; anything else, the host's interrupt among it, passes as it is, with a
    warning in the log.
    """
    results = Results()
    try:
        yield results
    except BaseException as error:
        if n_rows == 1:
            raise
        where, kept = f"row {results.current} of {n_rows}", _keep_all(results.finished, plan)
        if type(error) is RuntimeError:
            raise RuntimeError(f"{where}: {error}{kept}") from error
        logging.warning("sampling stopped in %s%s", where, kept)
        raise


def _keep_all(finished: Mapping[int, dict], plan: VideoPlan) -> str:
    """Save them; returns in words what became of them, to be put behind another sentence."""
    outcomes: dict[str, list[int]] = {}
    files: list[str] = []
    for number, latent in sorted(finished.items()):
        try:
            kept = _keep(number, latent, plan)
        except Exception as error:  # of the disk, the device or memory: what stopped the list must still come out
            outcome = f"lost, saving in {_folder()} failed ({_reason(error)})"
        else:
            files.append(kept.path.name)
            outcome = f"saved in {kept.path.parent}"
            outcome += "" if kept.refusal is None else f", {_folder()} refused ({_reason(kept.refusal)})"
        outcomes.setdefault(outcome, []).append(number)
    sentences = [f"finished {_rows(numbers)}: {outcome}" for outcome, numbers in outcomes.items()]
    sentences += [f"the files are {_listed(files)}; {FINISH} FILE"] if files else []
    return "".join(f"; {sentence}" for sentence in sentences)


def _keep(number: int, latent: dict, plan: VideoPlan) -> KeptLatent:
    parts = [f"row_{number:04}", plan.names[number - 1] if number <= len(plan.names) else None]
    settings = {"sampling": latent.get(SETTINGS), "video": plan.video, "vae_name": plan.vae_name}
    tags = {**plan.tags, SETTINGS: settings}
    return keep_latent(_folder(), "_".join(filter(None, parts)), 1, latent["samples"], tags)


def _folder() -> Path:
    return Path(folder_paths.get_output_directory(), *FOLDER)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _rows(numbers: Sequence[int]) -> str:
    return f"row{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _listed(files: Sequence[str]) -> str:
    more = len(files) - _SHOWN_FILES
    return ", ".join(files[:_SHOWN_FILES]) + (f" and {more} more" if more > 0 else "")
