"""Rows of a list: each equal to itself alone, every model loaded once, what waits between two experts, what is kept."""

import comfy.model_management
import folder_paths
import pytest
import torch

from wan_gguf.host.flow_sampler import FlowRun
from wan_gguf.host.sampler import sample_latent, sample_rows
from wan_gguf.sampling.schedules import SCHEDULES
from wan_gguf.sampling.solvers import SOLVERS
from wan_gguf.tests.host.accelerator import DEVICE, Accelerator, bytes_left, install
from wan_gguf.tests.host.watching import free_memory

# 4 steps at shift 5 and boundary 0.875 are 2 + 2 with every solver
SETTINGS = {"seed": 3, "steps": 4, "cfg": 1.0, "shift": 5.0, "solver": "unipc", "cfg_mode": "batched"}


@pytest.fixture(autouse=True)
def output(tmp_path, monkeypatch):
    """The host's output folder, for the rows of lists that stop."""
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    return tmp_path


@pytest.fixture
def row(high, low, conditioning):
    """row(**changed settings) -> a row for both experts; low_noise_model=None for one model."""

    def make(prompt=1, shape=(1, 16, 2, 4, 4), **changed):
        given = {"model": high, "positive": conditioning(prompt), "negative": conditioning(2), "low_noise_model": low}
        made = {**given, "latent": {"samples": torch.zeros(shape)}, **SETTINGS, **changed}
        return {name: value for name, value in made.items() if value is not None}

    return make


@pytest.fixture
def rows(row):
    """Rows that differ in everything a list can say."""
    return [
        row(),
        row(prompt=5, seed=8, solver="euler", cfg=3.0),
        row(prompt=6, shape=(1, 16, 1, 4, 6), steps=3, solver="dpm++"),
        row(seed=9, shift=3.0, shape=(2, 16, 2, 4, 4)),
    ]


@pytest.fixture
def loads(monkeypatch):
    """The file of the model at every load by the host, repetitions of one in a row left out."""
    seen, load = [], comfy.model_management.load_models_gpu

    def spy(models, **settings):
        file = models[0].attachments["wan_gguf"]["model"]
        if seen[-1:] != [file]:
            seen.append(file)
        return load(models, **settings)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", spy)
    return seen


def same(found: dict, expected: dict) -> bool:
    """Samples bit for bit, and the record."""
    return torch.equal(found["samples"], expected["samples"]) and found["wan_gguf"] == expected["wan_gguf"]


def test_every_row_is_what_it_is_alone(rows):
    alone = [sample_latent(**row) for row in rows]
    together = sample_rows(rows)
    assert [same(found, expected) for found, expected in zip(together, alone, strict=True)] == [True] * 4
    assert not torch.equal(together[0]["samples"], together[1]["samples"])
    backwards = sample_rows(rows[::-1])
    assert [same(found, expected) for found, expected in zip(backwards, alone[::-1], strict=True)] == [True] * 4


def test_every_row_is_what_it_is_alone_with_one_model(rows):
    rows = [{name: value for name, value in row.items() if name != "low_noise_model"} for row in rows]
    alone = [sample_latent(**row) for row in rows]
    assert [same(found, expected) for found, expected in zip(sample_rows(rows), alone, strict=True)] == [True] * 4


def test_every_model_is_loaded_once(rows, loads, monkeypatch):
    free_memory(monkeypatch, 1)  # no room for both
    sample_rows(rows)
    assert loads == ["tiny_0.gguf", "tiny_1.gguf"]


def test_one_after_the_other_would_load_them_in_turns(rows, loads, monkeypatch):
    free_memory(monkeypatch, 1)
    for row in rows[:2]:
        sample_latent(**row)
    assert loads == ["tiny_0.gguf", "tiny_1.gguf"] * 2


def test_the_first_expert_leaves_once_all_rows_passed_it(rows, monkeypatch):
    free_memory(monkeypatch, 1)
    left, unload = [], comfy.model_management.unload_model_and_clones

    def spy(model, **settings):
        left.append(model.attachments["wan_gguf"]["model"])
        return unload(model, **settings)

    monkeypatch.setattr(comfy.model_management, "unload_model_and_clones", spy)
    sample_rows(rows)
    assert left == ["tiny_0.gguf"]


def test_a_row_without_steps_for_one_expert_waits_for_the_other(row, loads, monkeypatch):
    free_memory(monkeypatch, 1)
    rows = [row(boundary=1.0), row(), row(boundary=0.1)]  # low only, both, high only
    together = sample_rows(rows)
    assert loads == ["tiny_0.gguf", "tiny_1.gguf"]
    assert [same(found, sample_latent(**row)) for found, row in zip(together, rows, strict=True)] == [True] * 3


def test_the_bar_counts_the_steps_of_all_rows(rows, monkeypatch):
    seen, bars = [], []

    def prepare_callback(model, total):
        bars.append(total)
        return lambda step, denoised, x, steps: seen.append((step, steps, tuple(denoised.shape)))

    monkeypatch.setattr("latent_preview.prepare_callback", prepare_callback)
    sample_rows(rows)
    assert bars == [15]
    assert [(step, steps) for step, steps, _ in seen] == [(step, 15) for step in range(15)]
    shapes = {(1, 16, 2, 4, 4), (1, 16, 1, 4, 6), (2, 16, 2, 4, 4)}
    assert {shape for _, _, shape in seen} == shapes


def test_a_faulty_row_is_named_before_anything_is_loaded(row, conditioning):
    with pytest.raises(ValueError, match=r"^row 2 of 3: cfg must be from 1.0 to 15.0, got 0.5"):
        sample_rows([row(), row(cfg=0.5), row()])
    with pytest.raises(ValueError, match=r"^row 3 of 3: positive: the encoded prompt is 4096 wide"):
        sample_rows([row(), row(), row(positive=conditioning(1, width=4096))])
    with pytest.raises(ValueError, match=r"^cfg must be"):  # a row alone has no number
        sample_rows([row(cfg=0.5)])
    assert not comfy.model_management.current_loaded_models


def test_a_row_that_fails_is_named_with_what_is_kept(row, high):
    broken = high.clone()
    broken.set_model_sampler_post_cfg_function(lambda args: args["denoised"] * float("nan"))
    rows = [row(low_noise_model=None) for _ in range(4)]
    rows[2] |= {"model": broken}
    with pytest.raises(RuntimeError, match=r"(?s)^row 3 of 4: sampling step 1 of 4.*finished rows 1, 2: saved in"):
        sample_rows(rows)


@pytest.mark.parametrize(
    ("step", "said"),
    [  # steps 0 to 3 are the first expert's, two a row, 4 to 7 the second's; the step after the interrupt looks
        (0, "sampling stopped in row 1 of 2\n"),
        (3, "sampling stopped in row 1 of 2\n"),
        (6, "sampling stopped in row 2 of 2; finished row 1: saved in"),
    ],
)
def test_an_interrupt_tells_what_is_kept_and_the_next_run_is_unharmed(row, monkeypatch, caplog, step, said):
    rows = [row(), row(seed=4)]
    expected = sample_rows(rows)

    def interrupting(model, total):
        return lambda at, *args: at == step and comfy.model_management.interrupt_current_processing()

    with monkeypatch.context() as patch:
        patch.setattr("latent_preview.prepare_callback", interrupting)
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            sample_rows(rows)
    assert said in caplog.text
    again = sample_rows(rows)
    assert [same(found, wanted) for found, wanted in zip(again, expected, strict=True)] == [True] * 2


@pytest.mark.parametrize("solver", SOLVERS)
def test_what_a_run_keeps_between_two_experts_lies_on_the_cpu_if_wanted(monkeypatch, solver):
    """On an emulated device: nothing is left there but the noise that the caller holds, and the same bits come out."""
    start = torch.randn(1, 16, 2, 4, 4, generator=torch.Generator().manual_seed(3))

    def run(on_cpu: bool) -> tuple[int, torch.Tensor]:
        noise = start.to(DEVICE)
        flow = FlowRun(SOLVERS[solver], SCHEDULES[solver](4, 5.0), on_cpu)

        def advance(stop: int) -> torch.Tensor:
            return flow.advance(lambda x, timestep: x.to(noise) * (timestep / 1000), noise, stop, lambda *_: None)

        advance(2)
        waiting = bytes_left() - noise.nbytes
        return waiting, advance(4).cpu()

    with Accelerator():
        install(monkeypatch)
        (left_there, there), (left_here, here) = run(on_cpu=False), run(on_cpu=True)
        assert left_there >= start.nbytes
        assert left_here == 0
        assert torch.equal(there, here)


@pytest.mark.parametrize("n_rows", [1, 2])
def test_only_lists_with_two_experts_wait_on_the_cpu(row, monkeypatch, n_rows):
    """A single run is computed where it always was."""
    wanted = []
    advance = FlowRun.advance

    def spy(self, *args):
        wanted.append(self.on_cpu)
        return advance(self, *args)

    monkeypatch.setattr(FlowRun, "advance", spy)
    sample_rows([row() for _ in range(n_rows)])
    assert set(wanted) == {n_rows > 1}
    wanted.clear()
    sample_rows([row(low_noise_model=None) for _ in range(n_rows)])
    assert set(wanted) == {False}
