"""`inspect --ops`: what it asks the dispatcher, what it prints, and what it says when asked for nothing."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from wan_gguf.cli import command_inspect, kernel_report
from wan_gguf.cli.errors import UsageError
from wan_gguf.cli.kernel_report import CALLS, as_text, ask
from wan_gguf.cli.preparation import Prepared
from wan_gguf.ops.dispatch import DECODE_KERNELS, LINEAR_KERNELS, choose_decode, choose_linear
from wan_gguf.ops.formats import FORMATS
from wan_gguf.ops.kernel import DecodeKernel, LinearKernel

CPU = torch.device("cpu")
SOME = [FORMATS[name] for name in ("F32", "F16", "Q4_0", "Q8_0", "Q4_K")]


def must_not_run(*_: object) -> None:
    raise AssertionError("inspect runs no kernel")


def decode_quants(packed, dtype) -> str | None:
    return f"has no {packed.format.name}" if packed.format.name in ("F16", "Q8_0") else None


def linear_many(x, packed, bias, mode) -> str | None:
    if x.shape[0] < 16:
        return f"takes 16 tokens or more, not {x.shape[0]}"
    return None if packed.format.name == "Q4_K" and x.dtype == torch.bfloat16 else "takes Q4_K with bf16 only"


def linear_exact(x, packed, bias, mode) -> str | None:
    return None if mode == "exact" else "computes mode exact only"


@pytest.fixture
def fake_kernels(monkeypatch) -> None:
    """A decoder that lacks some formats, a picky linear kernel, and one that computes mode exact."""
    decoders = [
        DecodeKernel("fast.decode", 10, decode_quants, must_not_run),
        DecodeKernel("plain.decode", 0, lambda packed, dtype: None, must_not_run),
    ]
    linears = [
        LinearKernel("fast.linear", 10, linear_many, must_not_run),
        LinearKernel("plain.linear", 0, linear_exact, must_not_run),
    ]
    monkeypatch.setattr(kernel_report, "choose_decode", partial(choose_decode, kernels=decoders))
    monkeypatch.setattr(kernel_report, "choose_linear", partial(choose_linear, kernels=linears))


TABLE = """\
  decode to bf16, fp32
    fast.decode: F32 Q4_0 Q4_K
    plain.decode: F16 Q8_0
      - fast.decode has no F16, Q8_0

  linear, mode exact: bf16, fp32 with 1 token
    plain.linear: all formats
      - fast.linear takes 16 tokens or more, not 1

  linear, mode exact: bf16 with 1024 tokens
    plain.linear: F32 F16 Q4_0 Q8_0
      - fast.linear takes Q4_K with bf16 only
    fast.linear: Q4_K

  linear, mode exact: fp32 with 1024 tokens
    plain.linear: all formats
      - fast.linear takes Q4_K with bf16 only

  linear, mode int8: bf16, fp32 with 1 token
    no kernel: all formats
      - fast.linear takes 16 tokens or more, not 1
      - plain.linear computes mode exact only

  linear, mode int8: bf16 with 1024 tokens
    no kernel: F32 F16 Q4_0 Q8_0
      - fast.linear takes Q4_K with bf16 only
      - plain.linear computes mode exact only
    fast.linear: Q4_K

  linear, mode int8: fp32 with 1024 tokens
    no kernel: all formats
      - fast.linear takes Q4_K with bf16 only
      - plain.linear computes mode exact only"""


def test_equal_answers_share_a_line(fake_kernels):
    assert as_text(ask(CPU, SOME)) == TABLE


def test_long_lists_of_formats_are_broken_into_lines(monkeypatch):
    kernels = [
        DecodeKernel("fast.decode", 10, lambda packed, dtype: f"has no {packed.format.name}", must_not_run),
        DecodeKernel("plain.decode", 0, lambda packed, dtype: None, must_not_run),
    ]
    monkeypatch.setattr(kernel_report, "choose_decode", partial(choose_decode, kernels=kernels))
    text = as_text(ask(CPU))
    assert max(map(len, text.splitlines())) <= kernel_report.WIDTH
    said = " ".join(text.split("\n\n")[0].split())
    assert said == f"decode to bf16, fp32 plain.decode: all formats - fast.decode has no {', '.join(FORMATS)}"


def test_every_format_is_asked_about_every_call_and_has_a_kernel():
    answers = ask(CPU)
    assert {(answer.format, answer.call) for answer in answers} == {(name, call) for name in FORMATS for call in CALLS}
    assert len(answers) == len(FORMATS) * len(CALLS)
    names = {kernel.name: kernel for kernel in (*DECODE_KERNELS, *LINEAR_KERNELS)}
    assert [answer for answer in answers if answer.kernel not in names] == []


def test_a_kernel_is_asked_with_the_tensors_of_its_call(monkeypatch):
    seen = set()

    def note(x, packed, bias, mode):
        assert bias.shape == packed.row_scale.shape == (packed.shape[0],)
        assert packed.nbytes == packed.shape[0] * packed.format.row_bytes(packed.shape[1])
        seen.add((packed.format.name, mode, x.dtype, bias.dtype, tuple(x.shape), packed.shape))

    kernels = [LinearKernel("noting.linear", 0, note, must_not_run)]
    monkeypatch.setattr(kernel_report, "choose_linear", partial(choose_linear, kernels=kernels))
    ask(CPU, SOME)
    assert seen == {
        (found.name, mode, dtype, dtype, (tokens, 3072), (3072, 3072))
        for found in SOME
        for mode in ("exact", "int8")
        for dtype in (torch.bfloat16, torch.float32)
        for tokens in (1, 1024)
    }


def test_every_gpu_is_a_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert [str(device) for device in kernel_report.devices()] == ["cpu", "cuda:0", "cuda:1", "mps"]


@pytest.fixture
def in_the_environment(monkeypatch) -> None:
    """As if the environment were ready and ran this process; one device, so that every machine prints the same."""
    monkeypatch.setattr(command_inspect, "prepare", lambda dev: Prepared(Path("python"), Path("host")))
    monkeypatch.setattr(command_inspect, "is_active", lambda: True)
    monkeypatch.setattr(kernel_report, "devices", lambda: [CPU])


def test_the_command_prints_the_table(in_the_environment, fake_kernels, capsys):
    assert command_inspect.run(["--ops"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"torch {torch.__version__}, weights of 3072 x 3072.")
    assert lines[2].startswith("cpu (")
    assert "    fast.linear: Q4_K" in lines


def test_the_command_prints_json(in_the_environment, fake_kernels, capsys):
    assert command_inspect.run(["--json", "--ops"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["torch"], report["weight"]) == (torch.__version__, [3072, 3072])
    (device,) = report["devices"]
    assert device["device"] == "cpu"
    assert len(device["answers"]) == len(FORMATS) * len(CALLS)
    wanted = {"format": "Q4_K", "operation": "linear", "mode": "int8", "dtype": "fp32", "tokens": 1024}
    (answer,) = [found for found in device["answers"] if found.items() >= wanted.items()]
    assert answer["kernel"] is None
    assert answer["refused"] == [
        {"kernel": "fast.linear", "reason": "takes Q4_K with bf16 only"},
        {"kernel": "plain.linear", "reason": "computes mode exact only"},
    ]


def test_outside_the_environment_it_hands_over(monkeypatch):
    calls = []
    monkeypatch.setattr(command_inspect, "prepare", lambda dev: Prepared(Path("python"), Path("host")))
    monkeypatch.setattr(command_inspect, "is_active", lambda: False)
    monkeypatch.setattr(command_inspect, "hand_over", lambda command: calls.append(command[2:]) or exit(0))
    with pytest.raises(SystemExit):
        command_inspect.run(["--ops", "--json"])
    assert calls == [["inspect", "--ops", "--json"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to inspect: a FILE, or --ops for the kernels"),
        (["--json"], "say what to inspect: a FILE, or --ops for the kernels"),
        (["model.gguf", "--ops"], "say what to inspect: a FILE, or --ops for the kernels"),
        (["--ops", "--verify", "source.gguf"], "--verify compares a FILE with its source; name both"),
        (["model.gguf", "--layers"], "unrecognized arguments: --layers; see: python3 cli inspect --help"),
        (["--ops", "--devices"], "unrecognized arguments: --devices"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_prepared(monkeypatch, arguments, message):
    monkeypatch.setattr(command_inspect, "prepare", must_not_run)
    with pytest.raises(UsageError, match=message):
        command_inspect.run(arguments)
