"""Packed weights take no memory of the process on a CPU: they are pages of the file, before, during and after a run.

Measured as RssAnon of /proc/self/status, in which a page of a mapped file does not count until it is copied.
"""

import ctypes
import gc
from pathlib import Path

import comfy.model_management
import pytest
import torch
from gguf import GGMLQuantizationType as Type

from wan_gguf.host.models import load_diffusion_model

STATUS = Path("/proc/self/status")
CONFIG = {"dim": 1024, "ffn_dim": 4096, "num_heads": 8}

pytestmark = pytest.mark.skipif(not STATUS.exists(), reason="RssAnon is read from /proc/self/status: Linux only")


def anonymous_bytes():
    """What this process holds that is no file, after freed memory went back to the system."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024


@pytest.fixture(scope="module")
def large_file(make_wan):
    """19 MB of packed matrices."""
    return make_wan(seed=8, types={"blocks": Type.Q4_K}, **CONFIG)[0]


def packed_layers(model):
    return [module for module in model.model.modules() if getattr(module, "packed", None) is not None]


@pytest.fixture
def warm(wan_file, ksample):
    """What a first run keeps for good (compiled kernels, threads, imports) is there already."""
    ksample(load_diffusion_model(wan_file[0], "fp32"))
    comfy.model_management.unload_all_models()


def test_a_model_takes_no_anonymous_memory_for_its_packed_weights(warm, large_file, ksample):
    start, seen = anonymous_bytes(), {}
    model = load_diffusion_model(large_file, "fp32")
    packed_bytes = sum(layer.packed.nbytes for layer in packed_layers(model) if layer.packed.format.name == "Q4_K")
    assert packed_bytes > 18e6
    for stage in ("load", "sample", "unload", "load again"):
        if stage == "unload":
            comfy.model_management.unload_all_models()
        elif stage != "load":
            ksample(model)
        seen[stage] = anonymous_bytes() - start
    # dense parameters of this model are 7 MB; a copy of the packed weights would add 19 MB at the stage that makes it
    dense_bytes = sum(param.nbytes for param in model.model.parameters() if type(param) is torch.nn.Parameter)
    assert all(grown < dense_bytes + packed_bytes / 2 for grown in seen.values()), (seen, dense_bytes, packed_bytes)
    before_copies = anonymous_bytes()
    copies = [layer.packed.data.clone() for layer in packed_layers(model)]
    assert anonymous_bytes() - before_copies > 0.9 * packed_bytes, "the measurement does not see a copy"
    del copies


def test_a_move_to_another_dtype_or_device_and_back_takes_none_either(warm, large_file):
    model = load_diffusion_model(large_file, "fp32")
    layers = packed_layers(model)
    start, packed_bytes = anonymous_bytes(), sum(layer.packed.nbytes for layer in layers)
    for layer in layers:
        layer.bias = None  # nothing else comes back from "meta"
        for target in (torch.float16, "meta", "cpu", torch.float32, "cpu"):
            layer.to(target)
        assert layer.weight._qdata.data_ptr() == layer.packed.data.data_ptr()
    assert anonymous_bytes() - start < packed_bytes / 4
