"""The finished rows of a list, on the disk until their videos are: the host keeps nothing of a node that fails.

A row is saved when it has passed all its steps, so neither an interrupt nor a kill loses it. The files are latents like
those that Save Video keeps, and `Wan GGUF Load Latent` or `python3 cli decode` finish them. A file is removed when Save
Video has put the row under its own name; if no Save Video follows, when the list is complete.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import folder_paths

from .latent_file import FINISH, SETTINGS, KeptLatent, keep_latent, samples_sha256
from .video_place import remove

ROW_FILE = "wan_gguf_row_file"  # key of a LATENT: the RowFile that it lies in
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


@dataclass(frozen=True)
class RowFile:
    """Where a row of a list lies until its video's own latent does, and the hash of its samples."""

    path: Path
    sha256: str


@dataclass
class Results:
    """How far a list is: the number of the row that is computed now, and the LATENTs of the finished ones by number."""

    n_rows: int
    plan: VideoPlan
    current: int = 1
    finished: dict[int, dict] = field(default_factory=dict)
    _kept: dict[int, KeptLatent] = field(default_factory=dict)

    def finish(self, number: int, latent: dict) -> None:
        """The row has passed all its steps. A disk that refuses does not end the list, whose rows are in memory."""
        self.finished[number] = latent
        if self.n_rows == 1:
            return
        try:
            self.keep(number)
        except Exception as error:
            where = f"row {number} of {self.n_rows} is finished and could not be saved in {_folder()}"
            logging.warning("%s (%s); it is in memory only until its video is made", where, _reason(error))

    def keep(self, number: int) -> KeptLatent:
        """The finished row on the disk, if it is not there yet. Raises what the disk, the device or memory raise."""
        if number not in self._kept:
            self._kept[number] = _keep(number, self.finished[number], self.plan)
        return self._kept[number]

    def complete(self) -> None:
        """No row is missing: what a Save Video takes over learns of its file, other files are not needed any more."""
        for number, kept in self._kept.items():
            if self.plan.video is None:
                remove(kept.path)
            else:
                latent = self.finished[number]
                latent[ROW_FILE] = RowFile(kept.path, samples_sha256(latent["samples"]))


def release(latent: dict) -> None:
    """The samples have been saved elsewhere: remove the file that a list left of them, if they are still the same."""
    row = latent.get(ROW_FILE)
    if isinstance(row, RowFile) and row.sha256 == samples_sha256(latent["samples"]):
        remove(row.path)


@contextlib.contextmanager
def kept_if_stopped(n_rows: int, plan: VideoPlan, tell: Callable[[str], None]) -> Iterator[Results]:
    """Whatever stops a list of several rows, its finished ones are saved, and the user learns which and where.

    The sentence goes to `tell`. A RuntimeError gets it into its text; anything else, memory that ran out and the host's
    interrupt among it, passes as it is, so that the host knows it, with a warning in the log.
    """
    results = Results(n_rows, plan)
    try:
        yield results
    except BaseException as error:
        if n_rows == 1:
            raise
        where, kept = f"row {results.current} of {n_rows}", _keep_all(results)
        said = f"sampling stopped in {where}{kept}"
        try:
            tell(said)
        except Exception as failure:  # of a server that ends: what stopped the list must still come out
            logging.warning("the node could not show why it stopped (%s)", _reason(failure))
        if type(error) is RuntimeError:
            raise RuntimeError(f"{where}: {error}{kept}") from error
        logging.warning(said)
        raise
    results.complete()


def _keep_all(results: Results) -> str:
    """Save what is not saved yet; returns in words what became of the rows, to be put behind another sentence."""
    outcomes: dict[str, list[int]] = {}
    files: list[str] = []
    for number in sorted(results.finished):
        try:
            kept = results.keep(number)
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
