"""Running the benchmarks' scripts as a user does: processes of this environment's Python."""

import os
import subprocess
import sys

import pytest

# What is used of ComfyUI-GGUF's ops.py and dequant.py, in the simplest form that has the same names and meaning.
OPS = """
import comfy.ops
import torch
from .dequant import dequantize_tensor

class GGMLTensor(torch.Tensor):
    def __init__(self, *args, tensor_type, tensor_shape, patches=(), **kwargs):
        super().__init__()
        self.tensor_type, self.tensor_shape = tensor_type, tensor_shape

    def __new__(cls, *args, tensor_type, tensor_shape, patches=(), **kwargs):
        return super().__new__(cls, *args, **kwargs)

    def detach(self, *args, **kwargs):
        return self

    @property
    def shape(self):
        return self.tensor_shape if hasattr(self, "tensor_shape") else self.size()

class GGMLOps(comfy.ops.manual_cast):
    class Linear(comfy.ops.manual_cast.Linear):
        def _load_from_state_dict(self, state_dict, prefix, *args):
            for name in ("weight", "bias"):
                if f"{prefix}{name}" in state_dict:
                    value = torch.nn.Parameter(state_dict[f"{prefix}{name}"], requires_grad=False)
                    setattr(self, name, value)

        def forward(self, x):
            weight = dequantize_tensor(self.weight, x.dtype)
            return torch.nn.functional.linear(x, weight, self.bias.to(x.dtype))
"""
DEQUANT = """
import gguf
import torch

def dequantize_tensor(tensor, dtype):
    plain = tensor.as_subclass(torch.Tensor)
    if plain.dtype != torch.uint8:
        return plain.to(dtype)
    return torch.from_numpy(gguf.quants.dequantize(plain.numpy(), tensor.tensor_type)).to(dtype)
"""


@pytest.fixture
def comfyui_gguf(tmp_path):
    """A stand-in for a clone of ComfyUI-GGUF, in a folder named like one."""
    folder = tmp_path / "ComfyUI-GGUF"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise ImportError('its nodes are not wanted')")
    (folder / "ops.py").write_text(OPS)
    (folder / "dequant.py").write_text(DEQUANT)
    return folder


@pytest.fixture
def script(root, host_dir):
    """script(name, *options) -> the finished process of benchmarks/<name>."""

    def run(name, *options):
        return subprocess.run(
            [sys.executable, str(root / "benchmarks" / name), *map(str, options)],
            env={**os.environ, "COMFYUI_DIR": str(host_dir)}, capture_output=True, encoding="utf-8", timeout=600,
        )  # fmt: skip

    return run
