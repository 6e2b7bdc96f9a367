"""Interrupts in the middle of a step: nothing more is computed, memory is as before, and the next run is unharmed."""

import comfy.model_management
import pytest
import torch

from wan_gguf.host.models import load_diffusion_model
from wan_gguf.host.operations import PackedWeightMixin
from wan_gguf.host.sampler import sample_rows
from wan_gguf.tests.host.accelerator import Accelerator, bytes_left, install
from wan_gguf.tests.host.test_memory_growth import live_tensors

SETTINGS = {"seed": 3, "steps": 4, "cfg": 1.0, "shift": 5.0, "solver": "unipc", "cfg_mode": "batched"}


@pytest.fixture
def experts(make_wan, wan_file):
    """Two models, 2 steps for each of a run's four."""
    return load_diffusion_model(wan_file[0]), load_diffusion_model(make_wan(seed=1)[0])


@pytest.fixture
def rows(experts, conditioning):
    """Two rows through both of them."""
    high, low = experts
    given = {"model": high, "low_noise_model": low, "positive": conditioning(1), "negative": conditioning(2)}
    return [{**given, "latent": {"samples": torch.zeros(1, 16, 2, 4, 4)}, **SETTINGS, "seed": seed} for seed in (3, 4)]


class Layers:
    """Counts the packed layers of a model that begin to compute, and interrupts when one of them does."""

    def __init__(self, model, interrupt_at: int):
        self.begun = 0
        self.interrupt_at = interrupt_at
        layers = [module for module in model.model.modules() if isinstance(module, PackedWeightMixin)]
        self.handles = [layer.register_forward_pre_hook(self._begin) for layer in layers]

    def _begin(self, module, args):
        self.begun += 1
        if self.begun == self.interrupt_at:
            comfy.model_management.interrupt_current_processing()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()


@pytest.mark.parametrize("expert", [0, 1])
def test_nothing_is_computed_after_an_interrupt_and_no_tensor_is_left(rows, experts, expert):
    with Layers(experts[expert], interrupt_at=0) as layers:
        expected = [row["samples"] for row in sample_rows(rows)]
    at = layers.begun * 3 // 8  # of 4 steps, two a row: half-way through the second
    before = live_tensors()
    with (
        Layers(experts[expert], interrupt_at=at) as layers,
        pytest.raises(comfy.model_management.InterruptProcessingException),
    ):
        sample_rows(rows)
    assert layers.begun == at
    assert live_tensors() == before
    again = [row["samples"] for row in sample_rows(rows)]
    assert [torch.equal(found, wanted) for found, wanted in zip(again, expected, strict=True)] == [True, True]


def test_on_a_device_an_interrupted_run_leaves_the_weights_and_nothing_else(wan_file, rows, monkeypatch):
    """The weights stay loaded for the next run, as after one that ended well."""
    with Accelerator():
        install(monkeypatch)
        model = load_diffusion_model(wan_file[0], "fp32")
        alone = [{**rows[0], "model": model, "low_noise_model": None, "steps": 2}]
        sample_rows(alone)  # loading puts the table of its noise levels there as well; later runs do not
        with Layers(model, interrupt_at=0) as layers:
            sample_rows(alone)
        before = bytes_left()
        with (
            Layers(model, interrupt_at=layers.begun * 3 // 4),
            pytest.raises(comfy.model_management.InterruptProcessingException),
        ):
            sample_rows(alone)
        assert bytes_left() == before > 0
        comfy.model_management.unload_all_models()
        assert bytes_left() == 0
