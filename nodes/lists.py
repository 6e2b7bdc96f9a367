"""Lists between nodes, for a node that takes all of them at once instead of being run for each entry by the host."""

from collections.abc import Mapping, Sequence
from typing import Any


def as_rows(inputs: Mapping[str, Sequence]) -> list[dict[str, Any]]:
    """{input: list} -> one {input: value} for each row, by the host's rule: a shorter list repeats its last entry.

    Raises ValueError for an empty list.
    """
    empty = [name for name, values in inputs.items() if len(values) == 0]
    if empty:
        raise ValueError(f"{', '.join(empty)}: got an empty list; a list needs one entry or more")
    n_rows = max(len(values) for values in inputs.values())
    return [{name: values[min(i, len(values) - 1)] for name, values in inputs.items()} for i in range(n_rows)]
