"""`inspect FILE --verify SOURCE`: the error of every tensor, and of every type, in a table or as JSON."""

import json
from dataclasses import asdict
from pathlib import Path

from ..convert.source import open_source
from ..convert.verify import TensorError, tensor_errors
from .errors import CliError
from .terminal import answer


def run(path: Path, source: Path, is_json: bool) -> int:
    """Print the errors; 1 when a weight is not finite. Raises CliError."""
    try:
        found = list(tensor_errors(open_source(path), open_source(source)))
    except ValueError as error:  # each kind of file has an error class of its own
        raise CliError(str(error)) from error
    if is_json:
        print(json.dumps([asdict(error) for error in found]))
    else:
        answer(as_text(found))
    return int(any(error.n_not_finite for error in found))


def as_text(found: list[TensorError]) -> str:
    """A line for each tensor, then one for each type with its largest relative error."""
    width = max(len(error.name) for error in found)
    lines = [f"{'tensor':<{width}}  {'type':<7} {'source':<7} {'relative':>9} {'largest':>9}"]
    for error in found:
        bad = f"  {error.n_not_finite} not finite" if error.n_not_finite else ""
        lines.append(
            f"{error.name:<{width}}  {error.type_name:<7} {error.source_dtype:<7} {error.relative:>9.2e} "
            f"{error.largest:>9.2e}{bad}"
        )
    for type_name in dict.fromkeys(error.type_name for error in found):
        errors = [error.relative for error in found if error.type_name == type_name]
        mean = sum(errors) / len(errors)
        said = f"{len(errors)} tensors, relative error {mean:.2e} on average, {max(errors):.2e} at most"
        lines.append(f"{type_name}: {said}")
    return "\n".join(lines)
