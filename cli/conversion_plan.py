"""Plans for a size: the options, measuring with a bar, and what was chosen for a program."""

import argparse
import importlib
from collections.abc import Sequence
from typing import Any

from ..convert.importance import Importance, read_importance
from ..convert.plan import Plan, plan_gguf
from ..convert.planned import Choice, Target, check_possible, plan_target, summary_of
from ..convert.size import parse_size
from ..convert.source import Source
from ..convert.target import check_target
from ..convert.type_costs import matrices, measure
from .errors import UsageError
from .terminal import Progress


def target_of(options: argparse.Namespace) -> Target | None:
    """What --target-size or --bits asks for; None with --type. Raises ConvertError, UsageError."""
    if options.target_size is None and options.bits is None:
        if options.importance or options.calibrate:
            raise UsageError("--importance and --calibrate are for a plan: --target-size or --bits instead of --type")
        return None
    if options.importance and options.calibrate:
        raise UsageError("--importance is a recorded run and --calibrate records one; give one of them")
    if options.target.suffix.lower() == ".safetensors":
        raise UsageError("--target-size and --bits are for a GGUF; for safetensors give --type F16, BF16 or F32")
    if options.bits is not None and not 0 < options.bits <= 32:
        raise UsageError(f"--bits must be above 0 and at most 32, got {options.bits:g}; usual: 3 to 8")
    return Target(bits=options.bits) if options.target_size is None else Target(nbytes=parse_size(options.target_size))


def plan_by_error(
    source: Source, target: Target, options: argparse.Namespace
) -> tuple[Plan, list[Choice], dict[str, Any]]:
    """Measure every matrix and choose: the plan, its choices and what the file saves of them. Raises ValueError."""
    check_target(source, plan_gguf(source, "Q2_K"), options.target, options.force or options.dry_run)
    check_possible(source, target, options.plain, options.license)  # both before the work
    importance = _importance(source, options)
    progress = Progress()
    progress.stage("Measuring the matrices")
    try:
        costs = measure(source, importance, lambda done, total, _: progress.step(done, total))
    finally:
        progress.finish()
    plan, choices = plan_target(source, target, costs, importance, options.plain, options.license)
    return plan, choices, summary_of(choices, target, importance)


def _importance(source: Source, options: argparse.Namespace) -> Importance:
    if options.calibrate:
        # not at the top: it needs packages that a conversion does without
        return importlib.import_module(".calibration", __package__).calibrate(source, options)
    return read_importance(options.importance, matrices(source)) if options.importance else Importance()


def choices_record(choices: Sequence[Choice]) -> dict[str, Any]:
    """The type, bytes, error and harm of every matrix, for a program."""
    return {
        choice.name: {
            "type": choice.cost.type_name,
            "bytes": choice.cost.nbytes,
            "error": choice.cost.error**0.5,
            "harm": choice.cost.harm,
        }
        for choice in choices
    }
