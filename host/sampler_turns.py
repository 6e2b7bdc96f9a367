"""Rows of a list through the experts: all rows through the first one, then all through the second.

A turn is what one expert does for one row. Each runs in the host's guider as a single run does, so a row's result is
that of the row alone; between its two turns a row is a latent and the solver's history, on the CPU. Models change only
where two turns that follow each other want different ones: once in a list, however long it is.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import comfy.model_management
import comfy.utils
import latent_preview
import torch
from comfy.model_patcher import ModelPatcher

from ..sampling.noise import seed_noise
from .experts import Expert, hand_over, read_ahead
from .flow_sampler import FlowRun, FlowSampler
from .models import ATTACHMENT
from .progress import NodeText, Pace, step_text
from .unfinished_rows import NOTHING_KNOWN, VideoPlan, kept_if_stopped
from .watch import check_final


@dataclass(frozen=True, eq=False)
class Row:
    """A run that is ready to start: `experts` in order, None for one without steps; `record` tells its settings."""

    experts: Sequence[Expert | None]
    run: FlowRun
    latent: dict
    seed: int
    record: dict

    @property
    def samples(self) -> torch.Tensor:
        """The latent it starts from."""
        return self.latent["samples"]


@dataclass(frozen=True, eq=False)
class _Turn:
    row: Row
    expert: Expert
    number: int  # of the row, from 1
    start: int  # steps of the row before this turn
    is_last: bool  # of the row
    work: int  # of a step, in elements that pass through the model

    @property
    def steps(self) -> int:
        return self.expert.stop - self.start


def run_rows(rows: Sequence[Row], node_id: str | None = None, plan: VideoPlan = NOTHING_KNOWN) -> list[dict]:
    """The rows' LATENTs, in order. Raises RuntimeError when a model gives NaN, and the host's interrupt.

    The rows of a list are saved as they are finished, with what `plan` says of their videos; if it stops, the message
    says where.
    """
    turns = _turns(rows)
    for row in rows:
        row.run.on_cpu = len(rows) > 1 and len(turns) > len(rows)
    progress = _Progress(turns, len(rows), node_id)
    with kept_if_stopped(len(rows), plan, progress.stopped) as results, contextlib.ExitStack() as cleanup:
        for turn, following in zip(turns, [*turns[1:], None], strict=True):
            results.current = turn.number
            reading = None if following is None else read_ahead(turn.expert.patcher, following.expert.patcher)
            if reading is not None:
                cleanup.callback(reading.stop)
            sampled = _take(turn, progress, None if reading is None else reading.start)
            if turn.is_last:
                results.finish(turn.number, _finished(turn.row, sampled))
            if following is not None:
                hand_over(turn.expert.patcher, following.expert.patcher, following.row.samples.shape)
    return [results.finished[number] for number in sorted(results.finished)]


def _turns(rows: Sequence[Row]) -> list[_Turn]:
    turns = []
    for place in range(max(len(row.experts) for row in rows)):
        for number, row in enumerate(rows, start=1):
            expert = row.experts[place] if place < len(row.experts) else None
            if expert is not None:
                before = [other.stop for other in row.experts[:place] if other is not None]
                is_last = expert.stop == len(row.run.schedule)
                work = row.samples.numel() * (1 if expert.guider.cfg == 1.0 else 2)
                turns.append(_Turn(row, expert, number, max(before, default=0), is_last, work))
    return turns


def _take(turn: _Turn, progress: "_Progress", before_last_step) -> torch.Tensor:
    """One expert's steps of one row."""
    row, latent = turn.row, turn.row.latent
    return turn.expert.guider.sample(
        seed_noise(row.samples.shape, row.seed),
        row.samples,
        FlowSampler(
            row.run,
            turn.expert.stop,
            progress.where(turn) or None,
            before_first_step=lambda: progress.start(turn),
            before_last_step=before_last_step,
        ),
        row.run.schedule.sigmas.float(),
        denoise_mask=latent.get("noise_mask"),
        callback=lambda step, denoised, x, steps: progress.step(turn, step, denoised, x),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=row.seed,
    )


def _finished(row: Row, sampled: torch.Tensor) -> dict:
    """`latent` with its samples replaced, as the stock KSampler returns it, and the record of the run."""
    management = comfy.model_management
    if "noise_mask" not in row.latent:  # a mask may leave nothing to sample
        check_final(sampled, _last_model(row))
    samples = sampled.to(device=management.intermediate_device(), dtype=management.intermediate_dtype())
    kept = {key: value for key, value in row.latent.items() if not key.startswith("downscale_ratio")}
    return {**kept, "samples": samples, ATTACHMENT: row.record}


def _last_model(row: Row) -> ModelPatcher:
    return [expert.model for expert in row.experts if expert is not None][-1]


class _Progress:
    """The host's bar and preview over all turns, and a line of text in the node."""

    def __init__(self, turns: Sequence[_Turn], n_rows: int, node_id: str | None):
        self._n_rows = n_rows
        self._steps = sum(turn.steps for turn in turns)
        self._done = 0
        self._work_left = sum(turn.steps * turn.work for turn in turns)
        self._pace = Pace()
        self._text = NodeText(node_id)
        firsts = {id(model): model for model in map(_preview_model, turns)}
        self._callbacks = {key: latent_preview.prepare_callback(model, self._steps) for key, model in firsts.items()}

    def where(self, turn: _Turn) -> str:
        """ "row 2/4, high noise"; nothing for one model and one row."""
        words = [f"row {turn.number}/{self._n_rows}"] if self._n_rows > 1 else []
        words += [turn.expert.name.replace("_", " ")] if turn.expert.name else []
        return ", ".join(words)

    def start(self, turn: _Turn) -> None:
        """The model is loaded and the first step begins."""
        self._pace.start()
        self._show(turn, turn.start)

    def step(self, turn: _Turn, step: int, denoised: torch.Tensor, x: torch.Tensor) -> None:
        """A step of the row, counted from 0, was computed."""
        self._pace.done(turn.work)
        self._work_left -= turn.work
        preview = self._callbacks[id(_preview_model(turn))]
        if preview is not None:
            preview(self._done, denoised, x, self._steps)
        self._done += 1
        self._show(turn, step + 1)

    def stopped(self, text: str) -> None:
        """The last the node says of a list that did not come to its end; it stays there, whatever ended the list."""
        self._text.show(text, is_last=True)

    def _show(self, turn: _Turn, step: int) -> None:
        seconds, left = self._pace.seconds(turn.work), self._pace.seconds(self._work_left)
        text = step_text(step, len(turn.row.run.schedule), seconds, left, self.where(turn))
        self._text.show(text, is_last=self._done == self._steps)


def _preview_model(turn: _Turn) -> ModelPatcher:
    """Whose latents the row has; of two experts the first that runs."""
    return next(expert.model for expert in turn.row.experts if expert is not None)
