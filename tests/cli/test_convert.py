"""`convert`: what it prints, how it ends, and the bar."""

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wan_gguf.cli import command_convert, main
from wan_gguf.cli.conversion_progress import ConversionProgress, bar, duration
from wan_gguf.cli.preparation import Prepared
from wan_gguf.convert.run import Progress
from wan_gguf.loaders.gguf import open_gguf
from wan_gguf.tests.convert.build import wan_values, write_safetensors
from wan_gguf.tests.convert.test_importance import write_importance


@pytest.fixture
def in_the_environment(monkeypatch) -> None:
    """As if the environment were ready and ran this process."""
    monkeypatch.setattr(command_convert, "prepare", lambda dev: Prepared(Path("python"), Path("host")))
    monkeypatch.setattr(command_convert, "is_active", lambda: True)


@pytest.fixture
def source(tmp_path) -> Path:
    return write_safetensors(tmp_path / "wan2.2_low_noise.safetensors", wan_values(), "BF16")


def test_one_command_makes_the_file(in_the_environment, source, tmp_path, capsys):
    target = tmp_path / "输出 文件.gguf"
    assert main.main(["convert", str(source), str(target), "--type", "q4_0", "--json", "--license", "apache-2.0"]) == 0
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert said["bytes"] == target.stat().st_size
    assert (said["type"], said["kind"], said["expert"]) == ("Q4_0", "wan", "low")
    assert (
        sum(found["tensors"] for found in said["types"].values()) == said["tensors"] == len(open_gguf(target).tensors)
    )
    assert said["seconds"] > 0 and said["rate_mb_per_s"] > 0
    assert said["peak_rss_bytes"] is None or said["peak_rss_bytes"] > 1e6
    assert open_gguf(target).metadata["general.license"] == "apache-2.0"
    lines = err.splitlines()
    assert lines[0].startswith(
        "wan2.2_low_noise.safetensors: a Wan model of width 256 with 16 channels in and 16 out, low"
    )
    assert lines[-1].startswith("[####################] 100%")


def test_without_json_the_types_are_listed(in_the_environment, source, tmp_path, capsys):
    assert main.main(["convert", str(source), str(tmp_path / "a.gguf"), "--type", "Q8_0"]) == 0
    out = capsys.readouterr().out
    assert f"{(tmp_path / 'a.gguf').stat().st_size} bytes in" in out
    assert any(line.split()[:3] == ["Q8_0", "20", "tensors"] for line in out.splitlines())


def test_a_dry_run_writes_nothing(in_the_environment, source, tmp_path, capsys):
    assert main.main(["convert", str(source), str(tmp_path / "a.gguf"), "--type", "Q2_K", "--dry-run", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["target"] is None
    assert not (tmp_path / "a.gguf").exists()
    assert main.main(["convert", str(source), str(tmp_path / "a.gguf"), "--type", "Q2_K"]) == 0
    assert said["bytes"] == (tmp_path / "a.gguf").stat().st_size


def test_a_plan_for_a_size(in_the_environment, source, tmp_path, capsys):
    target, dry = tmp_path / "a.gguf", ["convert", str(source), str(tmp_path / "a.gguf"), "--target-size", "2.4MB"]
    assert main.main([*dry, "--dry-run", "--json"]) == 0
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert said["type"] == "planned" and said["target"] is None and not target.exists()
    assert 2.38e6 < said["bytes"] <= 2.4e6
    assert "Measuring the matrices 20/20" in err
    assert len(said["matrices"]) == 20 == sum(sum(g["types"].values()) for g in said["plan"]["groups"].values())
    assert main.main(dry) == 0
    out = capsys.readouterr().out
    assert target.stat().st_size == said["bytes"]
    lines = out.splitlines()
    assert lines[0].split() == ["matrices", "bits", "error", "share", "types"]
    assert [line.split()[0] for line in lines[1:11]] == list(said["plan"]["groups"])
    shares = [float(line.split()[3].rstrip("%")) for line in lines[1:11]]
    assert sum(shares) == pytest.approx(100, abs=0.5)
    assert lines[11].startswith("  planned for 2400000 bytes: ") and "importance from weights and places" in lines[11]
    stored = open_gguf(target).tensors
    assert {name: stored[name].format.name for name in said["matrices"]} == {
        name: matrix["type"] for name, matrix in said["matrices"].items()
    }


def test_bits_and_a_recorded_importance(in_the_environment, source, tmp_path, capsys):
    names = [name for name in wan_values() if name.startswith("blocks.") and name.endswith(("q.weight", "k.weight"))]
    recorded = {name: [1.0] * 256 for name in wan_values() if name.startswith("blocks.") and ".norm" not in name}
    recorded = {name: ones if ".ffn.2." not in name else ones * 2 for name, ones in recorded.items()}
    sensitivities = {name: 9.0 if name in names else 0.1 for name in recorded}
    file = write_importance(tmp_path / "i.safetensors", recorded, sensitivities)
    arguments = ["convert", str(source), str(tmp_path / "a.gguf"), "--bits", "4.5", "--importance", str(file), "--json"]
    assert main.main(arguments) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["importance"]["from"] == "activations and sensitivities"
    assert list(plan["importance"]["files"]) == ["i.safetensors"]
    assert 4.2 < plan["bits"] <= 4.5
    assert plan["groups"]["self_attn.q"]["bits"] > 5 > plan["groups"]["ffn.0"]["bits"]


def test_to_safetensors(in_the_environment, source, tmp_path):
    assert main.main(["convert", str(source), str(tmp_path / "a.gguf"), "--type", "F16"]) == 0
    assert main.main(["convert", str(tmp_path / "a.gguf"), str(tmp_path / "b.safetensors"), "--type", "BF16"]) == 0
    assert (tmp_path / "b.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["a.gguf"], 2, "the following arguments are required: target"),
        (["a", "a.gguf"], 2, "one of the arguments --type --target-size --bits is required"),
        (["a", "a.gguf", "--type", "Q4_0", "--bits", "4"], 2, "argument --bits: not allowed with argument --type"),
        (["{source}", "{tmp}/a.gguf", "--target-size", "3 parsec"], 1, "size: got '3 parsec'; a number with a unit"),
        (["{source}", "{tmp}/a.gguf", "--target-size", "1MB"], 1, "cannot be made: the smallest has "),
        (["{source}", "{tmp}/a.gguf", "--target-size", "1TB"], 1, "is more than there is: the largest has "),
        (["{source}", "{tmp}/a.gguf", "--bits", "nan"], 2, "--bits must be above 0 and at most 32, got nan"),
        (["{source}", "{tmp}/a.safetensors", "--bits", "4"], 2, "--target-size and --bits are for a GGUF"),
        (
            ["{source}", "{tmp}/a.gguf", "--type", "Q4_0", "--importance", "i"],
            2,
            "are for a plan: --target-size or --bits",
        ),
        (
            ["{source}", "{tmp}/a.gguf", "--bits", "4", "--importance", "i", "--calibrate", "p.txt"],
            2,
            "give one of them",
        ),
        (
            ["{source}", "{tmp}/a.gguf", "--bits", "4", "--importance", "{source}"],
            1,
            "(k,) F32 is allowed",
        ),
        (["{source}", "{tmp}/no/a.gguf", "--bits", "4"], 1, "does not exist; make it, or name another"),
        (["missing.safetensors", "a.gguf", "--type", "Q4_0"], 1, "there is no such file or folder; check the path"),
        (["{source}", "a.bin", "--type", "Q4_0"], 1, "a.bin: this writes a .gguf file; choose a name that ends so"),
        (["{source}", "{tmp}/a.gguf", "--type", "Q7"], 1, "type Q7 is unknown; there are: Q2_K, Q3_K_S"),
        (["{source}", "{tmp}/a.safetensors", "--type", "F16", "--plain"], 2, "--plain is about a GGUF's metadata"),
        (["{source}", "{tmp}/a.gguf", "--type", "Q4_0", "--tokenizer", "{source}"], 1, "leave --tokenizer out"),
        (["{source}", "{tmp}/no/a.gguf", "--type", "Q4_0"], 1, "does not exist; make it, or name another"),
        (
            ["{source}", "{tmp}/a.gguf", "--type", "Q4_0", "--lora", "{source}"],
            1,
            "is not a LoRA but a Wan transformer",
        ),
        (["{source}", "{tmp}/a.gguf", "--type", "Q4_0", "--lora", "none.safetensors"], 1, "none.safetensors"),
    ],
)
def test_failures_are_one_line(in_the_environment, source, tmp_path, capsys, arguments, code, message):
    filled = [text.format(source=source, tmp=tmp_path) for text in arguments]
    assert main.main(["convert", *filled]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("error: ")
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


SLOW = """
import importlib.util, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
root = sys.argv[1]
spec = importlib.util.spec_from_file_location("wan_gguf", root + "/__init__.py", submodule_search_locations=[root])
sys.modules["wan_gguf"] = importlib.util.module_from_spec(spec)
from wan_gguf.cli import command_convert, main
from wan_gguf.convert import pieces
command_convert.prepare, command_convert.is_active = lambda dev: None, lambda: True
quantize = pieces.quantize
pieces.quantize = lambda *arguments: time.sleep(0.2) or quantize(*arguments)
sys.exit(main.main(sys.argv[2:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("number", "code", "message"),
    [(signal.SIGINT, 130, "error: stopped by Ctrl-C"), (signal.SIGTERM, 143, "error: stopped by a signal")],
)
def test_a_signal_leaves_no_file_and_one_line(source, tmp_path, root, number, code, message):
    target = tmp_path / "out.gguf"
    command = [sys.executable, "-c", SLOW, str(root), "convert", str(source), str(target), "--type", "Q4_0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, encoding="utf-8")
    part = tmp_path / "out.gguf.part"
    while process.poll() is None and not (part.exists() and part.stat().st_size):
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == code, err
    assert err.splitlines()[-1] == message
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_outside_the_environment_it_hands_over(monkeypatch):
    calls = []
    monkeypatch.setattr(command_convert, "prepare", lambda dev: Prepared(Path("python"), Path("host")))
    monkeypatch.setattr(command_convert, "is_active", lambda: False)
    monkeypatch.setattr(command_convert, "hand_over", lambda command: calls.append(command[2:]) or exit(0))
    with pytest.raises(SystemExit):
        command_convert.run(["a", "b.gguf", "--type", "Q4_0"])
    assert calls == [["convert", "a", "b.gguf", "--type", "Q4_0"]]


def test_the_bar():
    at = Progress(210, 825, 2_500_000_000, 10_000_000_000, "blocks.7.ffn.2.weight")
    assert bar(at, 50.0) == "[#####---------------]  25%  210/825 tensors  50.0 MB/s  about 2 min 30 s left"
    assert bar(Progress(0, 825, 0, 10, "a"), 0.0).endswith("about unknown left")


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0 s"), (59.4, "59 s"), (75, "1 min 15 s"), (7260, "2 h 1 min")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_in_a_pipe_every_tenth_is_a_line_and_on_a_terminal_one_line_is_redrawn():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, newlines in ((io.StringIO(), 10), (Terminal(), 1)):
        progress = ConversionProgress(stream)
        for i in range(1, 101):
            progress.show(Progress(i, 100, i, 100, "a"))
        progress.finish()
        text = stream.getvalue()
        assert text.count("\n") == newlines
        assert "100%  100/100 tensors" in text
        assert ("\r" in text) == (newlines == 1)
