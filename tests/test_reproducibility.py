"""docs/reproducibility.md: each row of its table says yes or no, where, and names tests that are there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "reproducibility.md"
ANSWERS = {"yes", "no"}
HEAD = ["what is compared", "same bytes", "where", "held by"]


def rows(text: str) -> list[list[str]]:
    """The cells of every row of the tables that have the head above."""
    found, inside = [], False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells == HEAD:
            inside = True
        elif inside and not set(line) <= set("|- "):
            found.append(cells)
    return found


def named_tests(cell: str) -> list[str]:
    """The node ids in a cell: they stand in backquotes."""
    return re.findall(r"`([^`]+)`", cell)


def is_there(node_id: str, root: Path = ROOT) -> bool:
    """Whether tests/<file>::[Class::]name is defined; read, not imported."""
    file, *names = node_id.split("::")
    path = root / "tests" / file
    if not names or not path.is_file():
        return False
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for name in names:
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        body = next((node.body for node in body if isinstance(node, kinds) and node.name == name), None)
        if body is None:
            return False
    return names[-1].startswith("test_")


ROWS = rows(DOCUMENT.read_text(encoding="utf-8"))


def test_the_tables_are_read():
    assert len(ROWS) >= 20
    assert {row[1] for row in ROWS} == ANSWERS, "without both answers a table is not honest, or was not read"


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_every_row_is_complete_and_its_tests_are_there(row):
    assert len(row) == len(HEAD) and all(row), row
    assert row[1] in ANSWERS
    assert named_tests(row[3]), f"'{row[0]}' names no test"
    assert [node for node in named_tests(row[3]) if not is_there(node)] == []


def test_a_test_that_was_renamed_is_noticed():
    assert is_there("test_reproducibility.py::test_a_test_that_was_renamed_is_noticed")
    assert is_there("host/test_watch.py::TestNothing") is False
    assert is_there("test_reproducibility.py::test_gone") is False
    assert is_there("test_reproducibility.py") is False
    assert is_there("test_reproducibility.py::rows") is False
    assert is_there("gone.py::test_gone") is False
