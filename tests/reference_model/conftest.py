"""The scripts of reference_model/ import one another by bare name; their folder is on the path for these tests only."""

import sys

import pytest
import torch


@pytest.fixture(scope="package", autouse=True)
def scripts(root):
    folder = str(root / "reference_model")
    sys.path.insert(0, folder)
    yield
    sys.path.remove(folder)
    host = sys.modules.get("comfy.model_management")
    if host:
        host.in_training = False  # host_classes.py sets both for the training
    torch.set_flush_denormal(False)


@pytest.fixture(autouse=True)
def auto_is_float32(monkeypatch):
    """On every machine: where bf16 is native, "auto" would take it, and these tests compare with float32."""
    monkeypatch.setattr("wan_gguf.host.models.has_native_bf16", lambda: False)
