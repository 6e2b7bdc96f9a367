"""The table of a plan for a size, as `convert` prints it and `inspect` reads it from a file.

matrices   their place in a block
bits       for each weight
error      root of the mean square error, of what weights of the same size would give
share      of the harm of the whole plan
"""

import json
from collections.abc import Mapping
from typing import Any

PLAN_KEY = "wan_gguf.plan"  # as in convert/planned.py, whose import takes longer than a report


def table(summary: Mapping[str, Any]) -> str:
    """The plan for a person, from what the file saves of it: a line for every place in a block."""
    groups = summary["groups"]
    width = max(len("matrices"), *(len(name) for name in groups))
    total = sum(group["harm"] for group in groups.values()) or 1.0
    lines = [f"  {'matrices':<{width}}  {'bits':>6}  {'error':>7}  {'share':>6}  types"]
    for name, group in groups.items():
        types = ", ".join(f"{count} {type_name}" for type_name, count in group["types"].items())
        lines.append(
            f"  {name:<{width}}  {group['bits']:>6.2f}  {group['error']:>7.2%}  {group['harm'] / total:>6.1%}  {types}"
        )
    said = f"{summary['bits']:.3f} bits per weight, measured on {summary['rows']} rows of each matrix"
    lines.append(f"  planned for {summary['target']}: {said}, importance from {summary['importance']['from']}")
    return "\n".join(lines)


def saved_plan(metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a file's metadata saves of its plan; None for a file without one, or with one that cannot be read."""
    try:
        found = json.loads(metadata[PLAN_KEY])
        table(found)
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError, ZeroDivisionError):
        return None
    return found
