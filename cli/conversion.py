"""What `convert` does in the environment: open, plan, write, and say what was done."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ..convert.merge import parse_lora, with_loras
from ..convert.plan import Plan, plan_gguf, plan_safetensors
from ..convert.quantize import quantizer
from ..convert.run import Summary, convert
from ..convert.source import Source, open_source
from ..convert.target import check_target
from ..loaders.wan_names import model_name
from .conversion_plan import choices_record, plan_by_error, target_of
from .conversion_progress import ConversionProgress
from .errors import CliError, UsageError
from .plan_table import table
from .terminal import answer, say


def run(options: argparse.Namespace) -> int:
    """Convert as the options say. Raises CliError."""
    try:
        source = _source(options)
        plan, chosen = _plan(source, options)
        check_target(source, plan, options.target, options.force or options.dry_run)
        say(f"{describe_source(source)} -> {options.target.name}, {plan.file_type}, {plan.nbytes / 1e9:.3f} GB")
        summary = None
        if not options.dry_run:
            progress = ConversionProgress()
            try:
                summary = convert(source, plan, options.target, options.force, progress.show)
            finally:
                progress.finish()
    except ValueError as error:  # each kind of file has an error class of its own
        raise CliError(str(error)) from error
    if options.json:
        print(json.dumps(record(source, plan, summary) | chosen, ensure_ascii=False))
    else:
        answer("\n".join([*([table(chosen["plan"])] if chosen else []), as_text(plan, summary)]))
    return 0


def _source(options: argparse.Namespace) -> Source:
    source = open_source(options.source, options.tokenizer)
    if not options.lora:
        return source
    source, said = with_loras(source, [parse_lora(text) for text in options.lora])
    for line in said:
        say(line)
    return source


def _plan(source: Source, options: argparse.Namespace) -> tuple[Plan, dict[str, Any]]:
    """The plan, and of one for a size what was chosen: {"plan": summary, "matrices": every matrix}."""
    target = target_of(options)
    if target is not None:
        plan, choices, summary = plan_by_error(source, target, options)
        return plan, {"plan": summary, "matrices": choices_record(choices)}
    return _published(source, options), {}


def _published(source: Source, options: argparse.Namespace) -> Plan:
    if options.target.suffix.lower() == ".safetensors":
        if options.plain:
            raise UsageError("--plain is about a GGUF's metadata; leave it out for safetensors")
        return plan_safetensors(source, options.file_type, options.license)
    return plan_gguf(source, options.file_type, options.plain, options.license)


def describe_source(source: Source) -> str:
    """One line: what it is, where it is from, and how large."""
    if source.kind == "wan":
        what = model_name(source.config) + (f", {source.expert} noise" if source.expert else "")
    else:
        what = f"UMT5 encoder of width {source.config['d_model']}"
    parts = f" in {len(source.files)} parts" if len(source.files) > 1 else ""
    return f"{source.path.name}{parts}: {what}, {len(source.tensors)} tensors, {source.nbytes / 1e9:.3f} GB"


def peak_rss_bytes() -> int | None:
    """The most memory this process had so far; None on Windows."""
    if sys.platform == "win32":
        return None
    if sys.platform == "linux":  # where getrusage counts in what the program had that started this one
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def as_text(plan: Plan, summary: Summary | None) -> str:
    """The result for a person: the file, its types, the speed."""
    lines = [
        f"  {name:<7} {count:>5} tensors {nbytes / 1e6:>12.1f} MB" for name, (count, nbytes) in plan.types().items()
    ]
    if summary is None:
        return "\n".join([f"would write {plan.nbytes} bytes:", *lines])
    speed = _rate(summary)
    took = f"in {summary.seconds:.1f} s, {speed:.1f} MB/s of the source"
    return "\n".join([f"{summary.target}: {summary.nbytes} bytes {took}", *lines])


def record(source: Source, plan: Plan, summary: Summary | None) -> dict[str, Any]:
    """The result for a program."""
    types = {name: {"tensors": count, "bytes": nbytes} for name, (count, nbytes) in plan.types().items()}
    found: dict[str, Any] = {
        "source": str(source.path),
        "kind": source.kind,
        "expert": source.expert,
        "source_bytes": source.nbytes,
        "type": plan.file_type,
        "bytes": plan.nbytes,
        "tensors": len(plan.tensors),
        "types": types,
        "quantizer": quantizer(),
        "loras": list(source.loras),
        "target": None,
    }
    if summary is None:
        return found
    return found | {
        "target": str(summary.target),
        "seconds": round(summary.seconds, 3),
        "rate_mb_per_s": round(_rate(summary), 3),
        "peak_rss_bytes": peak_rss_bytes(),
    }


def _rate(summary: Summary) -> float:
    return summary.source_bytes / 1e6 / max(summary.seconds, 1e-9)
