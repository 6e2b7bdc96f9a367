"""Progress: the pace and its text, the node's line with and without a server, and what sampling shows."""

import ast
import sys
from types import SimpleNamespace

import comfy.utils
import pytest
import torch

from wan_gguf.host.models import load_diffusion_model
from wan_gguf.host.progress import NodeText, Pace, WorkBar, duration, running_server, step_text
from wan_gguf.host.sampler import sample_rows

SETTINGS = {"seed": 3, "steps": 4, "cfg": 1.0, "shift": 5.0, "solver": "euler", "cfg_mode": "batched"}


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def texts(monkeypatch):
    """(text, node) of everything sent to a made-up server."""
    sent = []
    instance = SimpleNamespace(send_progress_text=lambda text, node_id: sent.append((text, node_id)))
    server = SimpleNamespace(PromptServer=SimpleNamespace(instance=instance))
    monkeypatch.setitem(sys.modules, "server", server)
    return sent


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (5.4, "0:05"), (95, "1:35"), (3599.6, "1:00:00"), (3700, "1:01:40"), (90000, "25:00:00")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((12, 40, 3.4, 95.2), "step 12/40, 3.4 s per step, 1:35 left"),
        ((1, 4, 0.123, 0.4, "row 2/3, high noise"), "row 2/3, high noise, step 1/4, 0.12 s per step, 0:00 left"),
        ((1, 4, 180.6, 541.8), "step 1/4, 181 s per step, 9:02 left"),
        ((0, 4, 0.0, 0.0, "low noise"), "low noise, step 0/4"),
    ],
)
def test_the_text_of_a_step(arguments, text):
    assert step_text(*arguments) == text


def test_the_pace_follows_and_forgets(clock):
    pace = Pace(clock)
    assert pace.seconds(1) == 0
    clock.now += 60  # a model is loaded
    pace.start()
    for _ in range(3):
        clock.now += 2
        pace.done(10)
    assert pace.seconds(10) == pytest.approx(2)
    assert pace.seconds(40) == pytest.approx(8)
    clock.now += 4
    pace.done(10)
    # weights 0.8^3, 0.8^2, 0.8 and 1 of 2, 2, 2 and 4 seconds
    assert pace.seconds(10) == pytest.approx((2 * (0.512 + 0.64 + 0.8) + 4) / (0.512 + 0.64 + 0.8 + 1))
    for _ in range(30):
        clock.now += 4
        pace.done(10)
    assert pace.seconds(10) == pytest.approx(4, rel=1e-2)


def test_rows_of_another_size_count_by_their_work(clock):
    pace = Pace(clock)
    clock.now += 1
    pace.done(10)
    clock.now += 3
    pace.done(30)
    assert pace.seconds(20) == pytest.approx(2)


def test_without_a_server_the_text_goes_nowhere(monkeypatch):
    monkeypatch.delitem(sys.modules, "server", raising=False)
    assert running_server() is None
    NodeText("7").show("step 1/4")
    monkeypatch.setitem(sys.modules, "server", SimpleNamespace())  # somebody else's module, or one not yet started
    assert running_server() is None
    monkeypatch.setitem(sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace()))
    assert running_server() is None


def test_the_host_s_server_has_the_method_that_is_called(host_dir):
    """Read, not imported: that would load all of the host's nodes."""
    tree = ast.parse((host_dir / "server.py").read_text(encoding="utf-8"))
    server = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "PromptServer")
    method = next(node for node in server.body if getattr(node, "name", "") == "send_progress_text")
    assert [argument.arg for argument in method.args.args][:3] == ["self", "text", "node_id"]
    assert "PromptServer.instance = self" in ast.unparse(server)


def test_texts_within_a_moment_are_one_but_for_the_last(texts, clock):
    line = NodeText("7", clock)
    for number in range(5):
        line.show(f"step {number}")
        clock.now += 0.06
    line.show("done", is_last=True)
    assert texts == [("step 0", "7"), ("step 2", "7"), ("step 4", "7"), ("done", "7")]
    NodeText(None, clock).show("nowhere to show it")
    assert len(texts) == 4


def test_bytes_of_work_have_a_bar_and_a_rate(texts, clock, monkeypatch):
    bars = []
    monkeypatch.setattr(
        comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, preview, node_id: bars.append((value, total))
    )
    bar = WorkBar("9", clock)
    for done in (10_000_000, 40_000_000):
        clock.now += 1
        bar.show(done, 40_000_000)
    assert bars[0] == (10_000_000, 40_000_000) and bars[-1] == (40_000_000, 40_000_000)
    assert texts == [("25%, 10.0 MB/s, 0:03 left", "9"), ("100%, 20.0 MB/s, 0:00 left", "9")]


@pytest.fixture
def row(wan_file, conditioning):
    """A row for a model on its own."""
    model = load_diffusion_model(wan_file[0])
    latent = {"samples": torch.zeros(1, 16, 2, 4, 4)}
    return {"model": model, "positive": conditioning(1), "negative": conditioning(2), "latent": latent, **SETTINGS}


@pytest.fixture
def every_text(monkeypatch):
    """Also those within a moment."""
    monkeypatch.setattr("wan_gguf.host.progress._MIN_INTERVAL_S", 0.0)


def without_times(texts) -> list[str]:
    """The texts up to their seconds."""
    return [text.partition(" s per step")[0].rpartition(", ")[0] if " left" in text else text for text, _ in texts]


def test_sampling_shows_every_step_in_its_node(row, texts, every_text):
    sample_rows([row], node_id="5")
    assert {node for _, node in texts} == {"5"}
    assert without_times(texts) == [f"step {number}/4" for number in range(5)]
    assert texts[-1][0].endswith(" s per step, 0:00 left")


def test_sampling_shows_row_and_expert(row, texts, every_text, make_wan):
    low = load_diffusion_model(make_wan(seed=1)[0])
    rows = [{**row, "low_noise_model": low}, {**row, "low_noise_model": low, "seed": 4}]
    sample_rows(rows, node_id="5")
    assert without_times(texts) == [
        f"row {number}/2, {expert} noise, step {step}/4"
        for expert, steps in (("high", (0, 1, 2)), ("low", (2, 3, 4)))
        for number in (1, 2)
        for step in steps
    ]


def test_sampling_shows_nothing_where_no_node_asks(row, texts):
    sample_rows([row])
    assert texts == []
