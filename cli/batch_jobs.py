"""What a batch is to make: a prompt list applied to one workflow, or whole workflows from a folder or a list of them.

A list is taken whole or not at all: every fault names its line and column, or its file.
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..text.prompt_checks import PROMPT_COLUMNS, check_prompts
from ..text.prompt_list import PromptListError, Row, decode_list, list_kind, parse_prompt_list, with_seeds
from .batch_mapping import COLUMNS, Target, find_target, parse_set, with_values
from .errors import CliError
from .output import slug
from .workflow import BUNDLED

MAX_LIST_BYTES = 1 << 30
MAX_NAME_BYTES = 180  # of a folder's name, which also gets its number
_LINE_END = re.compile(r"\r\n|\n|\r")  # as in prompt lists: JSON's texts may hold what Unicode takes for more of them
Named = tuple[str, dict]  # (name of the result, workflow in API form)


def read_jobs(jobs: Path, workflow: Path | None, sets: Sequence[str], policy: str, seed: int | None) -> list[Named]:
    """The jobs of a file or folder, in order, one at least. Raises CliError, OSError."""
    if not jobs.exists():
        raise CliError(f"{jobs}: there is no such file or folder; name a prompt list or a folder of workflows")
    whole = _whole_workflows(jobs)
    if whole is None:
        return _from_prompts(jobs, read_workflow(workflow or BUNDLED), sets, policy, seed)
    if workflow is not None or sets:
        raise CliError(f"{jobs} holds whole workflows, which --workflow and --set do not change; leave those out")
    if not whole:
        raise CliError(f"{jobs} holds no workflows; put .json files in API form there")
    return whole


def _whole_workflows(jobs: Path) -> list[Named] | None:
    """The workflows of a folder, of one .json file, or of a .jsonl of workflows; None: it is a prompt list."""
    if jobs.is_dir():
        files = sorted((file for file in jobs.iterdir() if file.suffix.lower() == ".json"), key=_in_counting_order)
        return [(_stem(file), read_workflow(file)) for file in files]
    if jobs.suffix.lower() == ".json":
        return [(_stem(jobs), read_workflow(jobs))]
    if jobs.suffix.lower() not in (".jsonl", ".ndjson"):
        return None
    lines = [(number, line) for number, line in enumerate(_LINE_END.split(_text(jobs)), start=1) if line.strip()]
    if not lines or not _is_workflow_line(lines[0][1]):
        return None
    return [(f"line-{number}", _checked(_decoded(line, number), f"line {number}")) for number, line in lines]


def _stem(file: Path) -> str:
    """The file's name as that of a result. Raises CliError."""
    try:
        return shortened(file.stem)
    except UnicodeEncodeError:
        shown = os.fsencode(file).decode(errors="backslashreplace")
        raise CliError(f"{shown}: the file's name is not UTF-8; rename it") from None


def _in_counting_order(file: Path) -> list[tuple[int, str]]:
    """So that 2.json comes before 10.json."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"([0-9]+)", file.name.lower())]


def _text(file: Path) -> str:
    size = file.stat().st_size
    if size > MAX_LIST_BYTES:
        raise CliError(f"{file} has {size} bytes, {MAX_LIST_BYTES} are allowed; split it")
    try:
        return decode_list(file.read_bytes())
    except PromptListError as error:
        raise CliError(f"{file}: {error}") from None


def _is_workflow_line(line: str) -> bool:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return False  # the prompt list's reader says what is wrong with it
    return isinstance(found, dict) and any(isinstance(body, dict) for body in found.values())  # a row has none


def _decoded(text: str, number: int) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f" at character {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        reason = getattr(error, "msg", None) or str(error)
        raise CliError(f"line {number}: no JSON ({reason}{where}); every line must be a workflow in API form") from None


def read_workflow(file: Path) -> dict:
    """A workflow in API form. Raises CliError, OSError."""
    try:
        found = json.loads(_text(file))
    except (ValueError, RecursionError) as error:
        raise CliError(f"{file}: no JSON ({error}); a workflow in API form is needed") from None
    return _checked(found, str(file))


def _checked(workflow: object, where: str) -> dict:
    if isinstance(workflow, dict) and isinstance(workflow.get("nodes"), list):
        raise CliError(
            f"{where}: this workflow is in the interface's form, which servers do not run; "
            "in ComfyUI choose Workflow > Export (API) and use that file"
        )
    if not isinstance(workflow, dict) or not workflow:
        raise CliError(f"{where}: a workflow in API form is a JSON object of nodes, and not empty")
    for node, body in workflow.items():
        good = (
            isinstance(body, dict) and isinstance(body.get("class_type"), str) and isinstance(body.get("inputs"), dict)
        )
        if not good:
            raise CliError(f"{where}: node '{node}' has no class_type or inputs; a workflow in API form is needed")
    _check_characters(workflow, where)
    return workflow


def _check_characters(workflow: dict, where: str) -> None:
    """JSON can write half of a surrogate pair, such as an emoji that was cut through; neither files nor hashes can."""
    if _is_writable(workflow):
        return
    node = next(node for node, body in workflow.items() if not _is_writable({node: body}))
    inputs = [name for name, value in workflow[node]["inputs"].items() if not _is_writable({name: value})]
    place = f"node '{node}'" + (f", input '{inputs[0]}'" if inputs else "")
    message = f"{where}: {place} has half of a character, such as an emoji that was cut through; write it anew"
    raise CliError(message.encode(errors="backslashreplace").decode())


def _is_writable(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _from_prompts(jobs: Path, workflow: dict, sets: Sequence[str], policy: str, seed: int | None) -> list[Named]:
    try:
        rows = parse_prompt_list(_text(jobs), list_kind(jobs.name))
        if seed is not None or policy != "from the row":  # else a row without a seed keeps the workflow's
            rows = with_seeds(rows, policy, seed or 0)
        targets = _targets(rows, workflow, sets, jobs)
        check_prompts(rows, [column for column in PROMPT_COLUMNS if _is_ours(workflow, targets.get(column, ()))])
    except PromptListError as error:
        raise CliError(
            f"{jobs}:\n{error}\nnothing was queued" if len(error.problems) > 1 else f"{jobs}: {error}"
        ) from None
    return [(row_name(row), with_values(workflow, _values(row, targets))) for row in rows]


def _is_ours(workflow: dict, targets: Sequence[Target]) -> bool:
    """Whether this pack's prompt node reads the column; the host's has other rules for weights."""
    return any(workflow[target.node]["class_type"] == "WanGGUFPrompt" for target in targets)


def _targets(rows: Sequence[Row], workflow: dict, sets: Sequence[str], jobs: Path) -> dict[str, list[Target]]:
    """column -> the inputs it goes to, for every column that a row uses."""
    targets: dict[str, list[Target]] = {}
    for text in sets:
        column, target = parse_set(text, workflow)
        targets.setdefault(column, []).append(target)
    for column in COLUMNS:
        using = [row for row in rows if getattr(row, column) is not None]
        if using and column not in targets:
            try:
                targets[column] = [find_target(workflow, column)]
            except CliError as error:
                raise CliError(f"{jobs}: line {using[0].line}, column {column}: {error}") from None
    return targets


def _values(row: Row, targets: dict[str, list[Target]]) -> dict[Target, object]:
    return {
        target: value
        for column, inputs in targets.items()
        if (value := getattr(row, column)) is not None
        for target in inputs
    }


def row_name(row: Row) -> str:
    """What the row's folder is called after its number."""
    return shortened(row.name) if row.name else slug(row.prompt)


def shortened(name: str) -> str:
    """The name, cut to what every file system takes, and no longer one that climbs out of its folder."""
    clean = re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|]', "-", name)
    return clean.encode()[:MAX_NAME_BYTES].decode(errors="ignore").strip(" .") or "job"
