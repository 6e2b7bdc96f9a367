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
