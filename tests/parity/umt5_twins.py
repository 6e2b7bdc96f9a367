"""One UMT5 encoder twice: a GGUF file in llama.cpp's naming, and transformers' UMT5EncoderModel."""

from collections.abc import Mapping
from pathlib import Path

import gguf
import torch
from transformers import UMT5Config, UMT5EncoderModel

from wan_gguf.tests.loaders.build import gguf_bytes
from wan_gguf.tests.loaders.dialects_umt5 import llama_name
from wan_gguf.tests.loaders.models import TOKENIZER, VOCABULARY, umt5_shapes_of_t5, umt5_tensors
from wan_gguf.tests.parity.quantised import encode

D_KV = 64


def make_twins(path: Path, quantised: str) -> UMT5EncoderModel:
    """Write a random encoder whose matrices have that type, and return its twin; both have VOCABULARY tokens."""
    tensors, encoded = umt5_tensors(quantised=quantised, d_kv=D_KV, vocab=VOCABULARY), {}
    for seed, (name, shape) in enumerate(umt5_shapes_of_t5().items()):
        type_name, _ = tensors[llama_name(name)]
        encoded[name] = encode(type_name, shape, *_spread(name, shape), seed)
    contents = {llama_name(name): data for name, (data, _) in encoded.items()}
    path.write_bytes(gguf_bytes(tensors, TOKENIZER, contents=contents))
    return _twin({name: values for name, (_, values) in encoded.items()})


def twin_of(path: Path) -> UMT5EncoderModel:
    """The encoder in a file of llama.cpp's naming in transformers, read by gguf-py."""
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    layers = sum(name.endswith(".attn_q.weight") for name in stored)
    names = {llama_name(name): name for name in _t5_names(layers)}
    return _twin({names[name]: torch.from_numpy(_decoded(tensor)) for name, tensor in stored.items() if name in names})


def _t5_names(layers: int) -> list[str]:
    names = list(umt5_shapes_of_t5())
    block = [name.removeprefix("encoder.block.0.") for name in names if name.startswith("encoder.block.0.")]
    top = [name for name in names if ".block." not in name]
    return top + [f"encoder.block.{i}.{leaf}" for i in range(layers) for leaf in block]


def _decoded(tensor: gguf.ReaderTensor):
    shape = tuple(int(size) for size in reversed(tensor.shape))
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(shape).astype("float32")


def _twin(weights: Mapping[str, torch.Tensor]) -> UMT5EncoderModel:
    (vocabulary, d_model), bias = weights["shared.weight"].shape, "layer.0.SelfAttention.relative_attention_bias.weight"
    buckets, heads = weights[f"encoder.block.0.{bias}"].shape
    config = UMT5Config(
        vocab_size=vocabulary,
        d_model=d_model,
        d_kv=weights["encoder.block.0.layer.0.SelfAttention.q.weight"].shape[0] // heads,
        d_ff=weights["encoder.block.0.layer.1.DenseReluDense.wo.weight"].shape[1],
        num_layers=sum(name.endswith(bias) for name in weights),
        num_heads=heads,
        relative_attention_num_buckets=buckets,
    )
    twin = UMT5EncoderModel(config)
    twin.load_state_dict({**weights, "encoder.embed_tokens.weight": weights["shared.weight"]})
    return twin.float().eval()


def _spread(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """(std, mean): as T5 is initialised, with position biases and norms that are not all alike."""
    if len(shape) == 1:
        return 0.1, 1.0
    if name == "shared.weight" or "relative_attention_bias" in name:
        return 1.0, 0.0
    return (shape[1] * (D_KV if name.endswith(".q.weight") else 1)) ** -0.5, 0.0
