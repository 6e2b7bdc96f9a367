"""Prompt lists: one row a video, as plain text, CSV or JSON lines, UTF-8 with or without a byte order mark.

    text    one prompt a line; blank lines and lines that begin with # are left out
    csv     RFC 4180 with a header row that names the columns, in any order and any letter case
    jsonl   one JSON object a line, with the columns as keys

`prompt` is the only column that must be there. What a row leaves out (an empty cell, null) is None in its Row. A list
is read whole or not at all: PromptListError names the line of every row that is wrong, from 1 as in a text editor, and
its first wrong column.
"""

import codecs
import csv
import dataclasses
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .prompt_columns import COLUMNS, READERS, Cells, shown, validate_seed

KINDS = {"text": (".txt",), "csv": (".csv",), "jsonl": (".jsonl", ".ndjson")}
SEED_POLICIES = ("from the row", "fixed", "increment")
MAX_FILE_BYTES = 16 * 2**20

_LINE_END = re.compile(r"\r\n|\n|\r")
_SHOWN_ERRORS = 20
_JSON_RULE = 'every line is a JSON object such as {"prompt": "a red circle", "seed": 7}'
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "，": "full-width commas"}


class PromptListError(ValueError):
    """A list that cannot be used; `problems` has one entry for each bad row, the text all of them."""

    def __init__(self, problems: Sequence[str]):
        self.problems = tuple(problems)
        more = len(self.problems) - _SHOWN_ERRORS
        lines = [*self.problems[:_SHOWN_ERRORS], *([f"and {more} rows more with errors"] if more > 0 else [])]
        super().__init__("\n".join(lines))


@dataclass(frozen=True)
class Row:
    """One video; `line` is where its row begins, and None what the row leaves to others to decide."""

    prompt: str
    negative: str | None = None
    seed: int | None = None
    cfg: float | None = None
    steps: int | None = None
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    name: str | None = None
    line: int = 0


def list_kind(file_name: str) -> str:
    """The kind of a list by the ending of its file's name. Raises PromptListError."""
    for kind, endings in KINDS.items():
        if file_name.lower().endswith(endings):
            return kind
    allowed = ", ".join(ending for endings in KINDS.values() for ending in endings)
    raise PromptListError([f"'{file_name}': a prompt list is one of {allowed}; rename the file"])


def load_prompt_list(path: Path) -> tuple[Row, ...]:
    """The rows of a file. Raises PromptListError, OSError."""
    kind, size = list_kind(path.name), path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise PromptListError([f"'{path.name}' has {size} bytes, {MAX_FILE_BYTES} are allowed; split the list"])
    return parse_prompt_list(decode_list(path.read_bytes()), kind)


def decode_list(data: bytes) -> str:
    """The text of a file's bytes. Raises PromptListError unless they are UTF-8 without NUL, which UTF-16 is full of."""
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        text, wrong = data.decode("utf-8"), data.find(b"\0")
    except UnicodeDecodeError as error:
        text, wrong = "", error.start
    if wrong < 0:
        return text
    line = data.count(b"\n", 0, wrong) + 1
    found = f"line {line}: byte {data[wrong]:#04x} is not UTF-8" if data[wrong] else f"line {line}: has a NUL character"
    raise PromptListError([f"{found}; save the list as UTF-8 (not as GBK, GB18030 or UTF-16)"])


def parse_prompt_list(text: str, kind: str) -> tuple[Row, ...]:
    """The rows of a list of that kind, in order, one at least. Raises PromptListError."""
    if kind not in KINDS:
        raise PromptListError([f"kind of list must be one of {', '.join(KINDS)}, got {kind!r}"])
    text = text.removeprefix("\ufeff")
    rows, problems = [], []
    for line, cells in _RECORDS[kind](text):
        if isinstance(cells, str):
            problems.append(f"line {line}: {cells}")
        else:
            try:
                rows.append(Row(**_read(cells), line=line))
            except ValueError as error:
                problems.append(f"line {line}, {error}")
    if problems:
        raise PromptListError(problems)
    if not rows:
        raise PromptListError(["the list has no prompts; write one a line, or rows below the header"])
    return tuple(rows)


def with_seeds(rows: Iterable[Row], policy: str, seed: int) -> tuple[Row, ...]:
    """The rows, each with a seed: its own or else `seed` ("from the row"), `seed` ("fixed"), `seed` plus the number of
    rows before it ("increment"). Raises PromptListError.
    """
    if policy not in SEED_POLICIES:
        raise PromptListError([f"seed policy must be one of {', '.join(SEED_POLICIES)}, got {policy!r}"])
    seeded, problems = [], []
    for number, row in enumerate(rows):
        wanted = seed + number if policy == "increment" else seed
        if policy == "from the row" and row.seed is not None:
            wanted = row.seed
        try:
            seeded.append(dataclasses.replace(row, seed=validate_seed(wanted)))
        except ValueError as error:
            problems.append(f"line {row.line}, column seed: {error}")
    if problems:
        raise PromptListError(problems)
    return tuple(seeded)


def _read(cells: Cells) -> dict[str, Any]:
    """{field of Row: value} of a row's cells, those left out not in it. Raises ValueError naming the column."""
    fields: dict[str, Any] = {}
    for column in COLUMNS:
        value = cells.get(column)
        if value is not None and value != "":
            try:
                fields |= READERS[column](value)
            except ValueError as error:
                raise ValueError(f"column {column}: {error}") from None
    if not fields.get("prompt", "").strip():
        raise ValueError("column prompt: is empty; every row needs a prompt")
    return fields


# Each of these gives (line, cells) or (line, what is wrong with the line as a whole).
Records = Iterator[tuple[int, Cells | str]]


def _text_records(text: str) -> Records:
    for number, line in enumerate(_LINE_END.split(text), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, {"prompt": line.strip()}


def _json_records(text: str) -> Records:
    for number, line in enumerate(_LINE_END.split(text), start=1):
        if line.strip():
            try:
                yield number, _json_object(line)
            except json.JSONDecodeError as error:  # its own text counts lines too, and every line is the first
                yield number, f"{error.msg} at character {error.colno}; {_JSON_RULE}"
            except (ValueError, RecursionError) as error:
                yield number, f"{error}; {_JSON_RULE}"


def _json_object(line: str) -> Cells:
    found = json.loads(line, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
    if not isinstance(found, Mapping):
        raise ValueError(f"a JSON {type(found).__name__}")
    for key in found:
        _check_column(key)
    return found


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key is there twice")
    return made


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


def _csv_records(text: str) -> Records:
    """A quoted cell may go over several lines; a row is where its first line is."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):  # spreadsheets leave rows of commas at the end
                if header is None:
                    header = _csv_header(cells)
                else:
                    yield line, _csv_row(header, cells)
            line = reader.line_num + 1
    except (csv.Error, ValueError) as error:
        yield line, str(error)  # nothing after it can be trusted


def _csv_header(cells: list[str]) -> list[str]:
    header = [cell.strip().lower() for cell in cells]
    for separator, words in _OTHER_SEPARATORS.items():
        if len(header) == 1 and separator in header[0]:
            raise ValueError(f"the header's columns are separated by {words}; commas are allowed")
    for number, column in enumerate(header):
        _check_column(column)
        if column in header[:number]:
            raise ValueError(f"column {column} is there twice; leave one out")
    if "prompt" not in header:
        raise ValueError(f"column prompt is missing in the header; got {', '.join(header)}")
    return header


def _csv_row(header: list[str], cells: list[str]) -> Cells | str:
    if len(cells) != len(header):
        return (
            f"{len(cells)} cells, the header has {len(header)} columns ({', '.join(header)}); a prompt with a comma "
            "goes between double quotes"
        )
    return {column: cell.strip() for column, cell in zip(header, cells, strict=True)}


def _check_column(column: str) -> None:
    if column not in COLUMNS:
        raise ValueError(f"column {shown(column)} is unknown; allowed: {', '.join(COLUMNS)}")


_RECORDS: dict[str, Callable[[str], Records]] = {
    "text": _text_records,
    "csv": _csv_records,
    "jsonl": _json_records,
}
