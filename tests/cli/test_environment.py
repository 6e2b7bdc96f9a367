"""The environment: what the stamp vouches for, and what happens to a half-made or broken one. Nothing is downloaded."""

import json
import subprocess
import sys

import pytest

from wan_gguf.cli import environment
from wan_gguf.cli.errors import CliError


@pytest.fixture
def venv(tmp_path, monkeypatch):
    """An empty environment in a folder of odd name; installing is recorded instead of done."""
    folder = tmp_path / "环境 1" / ".venv"
    monkeypatch.setattr(environment, "VENV", folder)
    monkeypatch.setattr(environment, "STAMP", folder / "stamp.json")
    monkeypatch.setattr(environment, "_CHECK", "import sys")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder


@pytest.fixture
def installed(monkeypatch):
    """The list of requirement lists that were to be installed."""
    calls = []
    monkeypatch.setattr(environment, "_install_all", calls.append)
    return calls


def test_a_subset_of_what_was_installed_is_ready(venv, installed):
    assert not environment.is_ready(["a"])
    environment.install(["a", "b==1"])
    assert installed == [["a", "b==1"]]
    assert environment.is_ready(["b==1"]) and environment.is_ready(["a", "b==1"])
    assert not environment.is_ready(["b==2"])


@pytest.mark.parametrize(
    "stamp", ["", "{", "[1]", "{}", '{"requirements": ["a"]}', '{"python": "CPython 2 7 18 x", "requirements": ["a"]}']
)
def test_a_damaged_or_foreign_stamp_counts_as_none(venv, stamp):
    (venv / "stamp.json").write_text(stamp)
    assert not environment.is_ready(["a"])


def test_a_run_that_is_cut_off_leaves_no_stamp(venv, monkeypatch):
    environment.STAMP.write_text(json.dumps({"python": environment._identity(), "requirements": ["a"]}))
    assert environment.is_ready(["a"])

    def cut_off(_requirements):
        raise KeyboardInterrupt

    monkeypatch.setattr(environment, "_install_all", cut_off)
    with pytest.raises(KeyboardInterrupt):
        environment.install(["a", "b"])
    assert not environment.is_ready(["a"])


def test_a_broken_interpreter_is_not_ready(venv, installed):
    environment.install(["a"])
    environment.venv_python().unlink()
    assert not environment.is_ready(["a"])


def test_an_environment_that_sees_system_packages_is_not_used(venv, installed):
    environment.install(["a"])
    settings = venv / "pyvenv.cfg"
    settings.write_text(settings.read_text().replace("system-site-packages = false", "system-site-packages = true"))
    assert not environment.is_ready(["a"])


def test_create_makes_a_broken_environment_anew_with_pip(venv):
    environment.venv_python().unlink()
    (venv / "leftover").write_text("")
    environment.create()
    assert not (venv / "leftover").exists()
    assert environment.output_of([environment.venv_python(), "-m", "pip", "--version"])


def test_create_leaves_a_working_environment_alone(venv):
    (venv / "mark").write_text("")
    environment.create()
    assert (venv / "mark").exists()


def test_packages_that_do_not_import_make_it_anew_once(venv, installed, monkeypatch):
    monkeypatch.setattr(environment, "_CHECK", "import no_such_module")
    monkeypatch.setattr(environment, "create", lambda: venv.mkdir(exist_ok=True))
    with pytest.raises(CliError, match="checking the new environment failed"):
        environment.install(["a"])
    assert installed == [["a"], ["a"]]
    assert not environment.STAMP.exists()


@pytest.mark.parametrize(
    ("pip_settings", "variables", "expected"),
    [
        ("global.index-url='x'", {}, True),
        (":env:.index-url='x'", {}, True),
        ("global.extra-index-url='x'", {}, False),
        ("", {}, False),
        ("global.index-url='x'", {"UV_DEFAULT_INDEX": "y"}, False),
    ],
)
def test_an_index_only_pip_knows_rules_uv_out(monkeypatch, pip_settings, variables, expected):
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(environment, "ensure_pip", lambda: None)
    monkeypatch.setattr(environment, "output_of", lambda _command: pip_settings)
    assert environment._only_pip_has_an_index() is expected


def test_pip_takes_over_when_uv_fails(venv, monkeypatch):
    commands = []

    def run(command, _doing):
        commands.append([str(part) for part in command])
        if command[0] == "uv":
            raise CliError("uv failed")

    monkeypatch.setattr(environment, "run", run)
    monkeypatch.setattr(environment, "_uv", lambda: "uv")
    monkeypatch.setattr(environment, "ensure_pip", lambda: None)
    environment._install_all(["a"])
    assert [command[:4] for command in commands] == [
        ["uv", "pip", "install", "--python"],
        [str(environment.venv_python()), "-m", "pip", "install"],
    ]
