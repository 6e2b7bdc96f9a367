"""Small sources for the converter's tests: random weights of real architectures in any dtype, whole or in parts."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from wan_gguf.convert.source import Source
from wan_gguf.convert.stored import StoredTensor
from wan_gguf.loaders.wan_config import wan_config
from wan_gguf.tests.loaders.build import safetensors_bytes
from wan_gguf.tests.loaders.models import shapes_of, wan_tensors

Shapes = Mapping[str, tuple[int, ...]]
DTYPES = {
    "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2, "I64": torch.int64, "U8": torch.uint8,
}  # fmt: skip


def wan_values(seed: int = 0, **sizes: int) -> dict[str, torch.Tensor]:
    """A small Wan transformer: {official name: float32}, as large as trained weights are."""
    generator = torch.Generator().manual_seed(seed)
    shapes = shapes_of(wan_tensors(**sizes))
    return {name: torch.randn(shape, generator=generator) * 0.05 for name, shape in shapes.items()}


def entry(values: torch.Tensor, dtype: str) -> tuple[str, tuple[int, ...], bytes]:
    """A tensor as safetensors_bytes takes it."""
    stored = values.to(DTYPES[dtype]).contiguous()
    return dtype, tuple(stored.shape), stored.flatten().view(torch.uint8).numpy().tobytes()


def write_safetensors(path: Path, values: Mapping[str, torch.Tensor], dtype: str | Mapping[str, str] = "F16") -> Path:
    """One file; `dtype` for all, or by name."""
    of = (lambda name: dtype) if isinstance(dtype, str) else dtype.__getitem__
    path.write_bytes(safetensors_bytes({name: entry(value, of(name)) for name, value in values.items()}))
    return path


def write_shards(folder: Path, values: Mapping[str, torch.Tensor], n: int = 3, dtype: str = "F16") -> Path:
    """A model in parts with its index, as the official repositories have it."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(values)
    weight_map = {}
    for i in range(n):
        file = f"diffusion_pytorch_model-{i + 1:05}-of-{n:05}.safetensors"
        part = {name: values[name] for name in names[i::n]}
        write_safetensors(folder / file, part, dtype)
        weight_map |= dict.fromkeys(part, file)
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8")
    return folder


def shapes_source(shapes: Shapes, dtype: str, is_gguf: bool = False, kind: str = "wan") -> Source:
    """A source of these shapes without any file: enough to plan with."""
    path = Path("model.safetensors")
    tensors = {name: StoredTensor(path, name, dtype, shape, 0) for name, shape in shapes.items()}
    config = wan_config(shapes, path.name) if kind == "wan" else {}
    return Source(path, (path,), kind, config, tensors, is_gguf)


def decoded(source: Source) -> dict[str, np.ndarray]:
    """All weights of a source, float32."""
    return {name: tensor.rows(0, tensor.n_rows).reshape(tensor.shape) for name, tensor in source.tensors.items()}
