"""The command line as a user meets it: from any folder, in a folder of any name, with any Python."""

import ast
import os
import shutil
import subprocess
import sys

import pytest

from wan_gguf.cli.main import discover


def run(*arguments, cwd, variables=None):
    """Run a program to its end."""
    environment = {**os.environ, **(variables or {})}
    return subprocess.run(
        [str(part) for part in arguments], cwd=cwd, env=environment, capture_output=True, encoding="utf-8", timeout=300
    )


@pytest.fixture
def odd_clone(root, tmp_path):
    """The command line alone, in a folder whose name has everything a name may have."""
    clone = tmp_path / "我的 pack (1) & 'co' 100%"
    shutil.copytree(root / "cli", clone / "cli", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__.py", "pyproject.toml"):
        shutil.copy(root / name, clone / name)
    return clone


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_overview_names_every_command(odd_clone, tmp_path, arguments):
    done = run(sys.executable, "-S", odd_clone / "cli", *arguments, cwd=tmp_path)  # -S: no installed package at all
    assert (done.returncode, done.stderr) == (0, "")
    assert [name for name in ("demo", "inspect", "test") if f"  {name} " not in done.stdout] == []


@pytest.mark.parametrize("command", ["demo", "inspect", "test"])
def test_each_command_has_its_own_help(odd_clone, tmp_path, command):
    done = run(sys.executable, "-S", odd_clone / "cli", command, "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: python3 cli {command} ")


def test_an_unknown_command_is_one_line_and_exit_code_2(odd_clone, tmp_path):
    done = run(sys.executable, odd_clone / "cli", "dmeo", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"error: unknown command 'dmeo'; there are: {', '.join(discover())}\n"


def test_bad_options_and_missing_files_end_before_anything_is_made(odd_clone, tmp_path):
    bad = run(sys.executable, "-S", odd_clone / "cli", "demo", "x", "--frames", "80", cwd=tmp_path)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr == "error: frames must be 1 + a multiple of 4, got 80; nearest: 77 or 81\n"
    missing = run(sys.executable, "-S", odd_clone / "cli", "demo", "x", cwd=tmp_path)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr.startswith("error: the reference model is incomplete:") and missing.stderr.count("\n") == 1
    assert not (odd_clone / ".venv").exists() and not (odd_clone / ".cache").exists()


@pytest.mark.parametrize("encoding", ["cp1252", "cp936", "ascii"])
def test_an_encoding_without_chinese_does_not_end_a_run(odd_clone, tmp_path, encoding):
    variables = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    for arguments, code in ((["demo", "--help"], 0), (["demo", "红", "--cfg", "红"], 2)):
        done = subprocess.run(
            [sys.executable, str(odd_clone / "cli"), *arguments],
            cwd=tmp_path, env={**os.environ, **variables}, capture_output=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == code
        assert b"Traceback" not in done.stderr


def test_an_old_python_is_told_so(odd_clone, tmp_path):
    source = (odd_clone / "cli" / "__main__.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 6))  # or an old Python would complain about the syntax instead
    pretend = "import runpy, sys; sys.version_info = (3, 9, 18); runpy.run_path(sys.argv[1], run_name='__main__')"
    done = run(sys.executable, "-c", pretend, odd_clone / "cli", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == "error: Python 3.10 or newer is needed, this is 3.9"


def test_the_continuous_integration_runs_exactly_the_test_command(root):
    script = root / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-1].endswith("exec python3 cli test")


def test_pytest_gets_the_arguments_the_host_and_the_clones_root(odd_clone, monkeypatch, tmp_path):
    from wan_gguf.cli import command_test, preparation
    from wan_gguf.cli.paths import ROOT

    calls = []
    ready = preparation.Prepared(tmp_path / "python", tmp_path / "host")
    monkeypatch.setattr(command_test, "prepare", lambda dev: ready if dev else None)
    monkeypatch.setattr(command_test, "hand_over", lambda *args, **kwargs: calls.append((args, kwargs)))
    command_test.run(["--long", "-k", "a b"])
    command_test.run(["--", "--help"])
    command = [tmp_path / "python", "-m", "pytest", "--import-mode=importlib"]
    expected = {"folder": ROOT, "COMFYUI_DIR": str(tmp_path / "host")}
    assert calls == [(([*command, "--long", "-k", "a b"],), expected), (([*command, "--help"],), expected)]


def test_the_whole_suite_runs_in_several_processes(odd_clone, monkeypatch, tmp_path):
    from wan_gguf.cli import command_test, preparation

    calls = []
    ready = preparation.Prepared(tmp_path / "python", tmp_path / "host")
    monkeypatch.setattr(command_test, "prepare", lambda dev: ready)
    monkeypatch.setattr(command_test, "hand_over", lambda command, **_: calls.append(command[4:]))
    for arguments in ([], ["--long"], ["tests/cli"]):
        command_test.run(arguments)
    assert calls == [[*command_test.PARALLEL], [*command_test.PARALLEL, "--long"], ["tests/cli"]]
