"""`python3 cli bench`: finding the subjects, and becoming the chosen one in the prepared environment."""

import sys

import pytest

from wan_gguf.cli import command_bench, preparation
from wan_gguf.cli.errors import UsageError


class BecameAnotherProgramError(Exception):
    """What hand_over does instead of returning."""


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """Every hand_over as (command, variables); preparing makes nothing."""
    found = []

    def hand_over(command, **variables):
        found.append((command, variables))
        raise BecameAnotherProgramError

    ready = preparation.Prepared(tmp_path / "python", tmp_path / "host")
    monkeypatch.setattr(command_bench, "prepare", lambda dev: ready if dev else None)
    monkeypatch.setattr(command_bench, "hand_over", hand_over)
    return found


def test_a_subject_is_a_script_with_a_summary_and_is_not_imported(tmp_path):
    (tmp_path / "one_thing.py").write_text('import nothing_like_this\nSUMMARY = "measures one thing"\n')
    (tmp_path / "helper.py").write_text('def f():\n    SUMMARY = "no subject"\n')
    (tmp_path / "notes.md").write_text("")
    assert command_bench.subjects(tmp_path) == {"one-thing": (tmp_path / "one_thing.py", "measures one thing")}
    assert command_bench.subjects(tmp_path / "missing") == {}


def test_the_cpu_is_a_subject():
    assert {"cpu", "forward", "open-gguf"} <= set(command_bench.subjects())


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_lists_the_subjects(arguments, capsys, calls):
    assert command_bench.run(arguments) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("usage: python3 cli bench ") and "\n  cpu " in captured.out
    assert (captured.err, calls) == ("", [])


def test_an_unknown_subject_ends_before_anything_is_made(calls):
    with pytest.raises(UsageError, match=r"^unknown subject 'gqu'; there are: .*cpu"):
        command_bench.run(["gqu"])
    assert calls == []


def test_the_subject_runs_in_the_environment_with_the_host(calls, tmp_path):
    with pytest.raises(BecameAnotherProgramError):
        command_bench.run(["cpu", "--json", "--quick"])
    command = [tmp_path / "python", command_bench.FOLDER / "cpu.py", "--json", "--quick"]
    assert calls == [(command, {"COMFYUI_DIR": str(tmp_path / "host")})]


def test_a_subjects_help_needs_no_environment(calls):
    with pytest.raises(BecameAnotherProgramError):
        command_bench.run(["cpu", "--help"])
    assert calls == [([sys.executable, command_bench.FOLDER / "cpu.py", "--help"], {})]
