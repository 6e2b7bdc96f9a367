"""What is made before a command runs, in which order, and that nothing is made twice."""

from pathlib import Path

import pytest

from wan_gguf.cli import command_demo, preparation
from wan_gguf.cli.preparation import Prepared, prepare


@pytest.fixture
def steps(monkeypatch, tmp_path):
    """The steps that were taken; the world has neither host nor environment."""
    taken = []
    world = {"known_host": None, "is_ready": False}
    monkeypatch.setattr(preparation, "STATE", tmp_path)
    monkeypatch.setattr(preparation, "all_requirements", lambda host, dev: [str(host), "dev" if dev else "run"])
    monkeypatch.setattr(preparation, "known_host", lambda: world["known_host"])
    monkeypatch.setattr(preparation, "is_ready", lambda _requirements: world["is_ready"])
    for name in ("create", "ensure_pip"):
        monkeypatch.setattr(preparation, name, lambda name=name: taken.append(name))
    monkeypatch.setattr(preparation, "find_host", lambda _python: taken.append("find_host") or Path("found"))
    monkeypatch.setattr(preparation, "install", lambda requirements: taken.append(requirements))
    return taken, world


def test_the_host_is_fetched_with_the_environments_pip_and_then_installed_for(steps):
    taken, _ = steps
    assert prepare(dev=True).host == Path("found")
    assert taken == ["create", "ensure_pip", "find_host", ["found", "dev"]]


def test_with_a_host_at_hand_only_packages_are_missing(steps):
    taken, world = steps
    world["known_host"] = Path("mine")
    assert prepare(dev=False).host == Path("mine")
    assert taken == [["mine", "run"]]


def test_a_second_run_does_nothing(steps):
    taken, world = steps
    world.update(known_host=Path("mine"), is_ready=True)
    prepare(dev=True)
    assert taken == []


@pytest.fixture
def demo_calls(monkeypatch, tmp_path):
    """What the demo command does after its checks, recorded."""
    calls = []
    monkeypatch.setattr(command_demo, "model_files", lambda _workflow: [])
    monkeypatch.setattr(command_demo, "prepare", lambda dev: Prepared(tmp_path / "python", tmp_path / "host"))

    def hand_over(command):
        calls.append(command)
        raise SystemExit(0)

    monkeypatch.setattr(command_demo, "hand_over", hand_over)
    return calls


def test_outside_the_environment_the_demo_is_handed_over_with_its_arguments(demo_calls, monkeypatch, tmp_path):
    monkeypatch.setattr(command_demo, "is_active", lambda: False)
    arguments = ["红 圆", "--out", "a b", "--json"]
    with pytest.raises(SystemExit):
        command_demo.run(arguments)
    assert demo_calls == [[tmp_path / "python", command_demo.CLI, "demo", *arguments]]


def test_inside_the_environment_the_demo_runs(demo_calls, monkeypatch, tmp_path):
    from wan_gguf.cli import demo

    runs = []
    monkeypatch.setattr(command_demo, "is_active", lambda: True)
    monkeypatch.setattr(demo, "run", lambda options, host: runs.append((options.settings, host)) or 0)
    assert command_demo.run(["x", "--seed", "3"]) == 0
    assert runs == [({"prompt": "x", "seed": 3}, tmp_path / "host")] and demo_calls == []
