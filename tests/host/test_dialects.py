"""Files of every dialect that hold the same values are the same model in the host.

The values are whole multiples, up to 127, of a power of two, and every 32 of them hold a 127: F32, F16, BF16 and Q8_0
store such numbers without rounding, so dialects that choose different types for a tensor can be compared exactly.
"""

import math

import gguf
import numpy as np
import pytest
import sentencepiece
import torch
from comfy.quant_ops import QuantizedTensor

from wan_gguf.host.models import load_diffusion_model
from wan_gguf.host.text_encoder import load_text_encoder
from wan_gguf.ops.formats import FORMATS
from wan_gguf.tests.loaders.build import array, gguf_bytes, random_bytes, scalar, text
from wan_gguf.tests.loaders.dialects import calcuis, city96, prefixed, sd_cpp
from wan_gguf.tests.loaders.dialects_umt5 import llama_cpp, t5_names
from wan_gguf.tests.loaders.models import shapes_of, umt5_tensors, wan_tensors

WAN_DIALECTS = {
    "QuantStack": lambda shapes: city96(shapes, "Q8_0", "F16"),
    "jayn7": lambda shapes: city96(shapes, "Q8_0", "BF16"),
    "hum-ma": lambda shapes: city96(shapes, "Q8_0", "F32"),
    "city96, Wan2.1": lambda shapes: city96(shapes, "Q8_0", "F32 kept"),
    "stable-diffusion.cpp": lambda shapes: sd_cpp(shapes, "Q8_0"),
    "stable-diffusion.cpp, diffusion model": lambda shapes: prefixed(sd_cpp(shapes, "Q8_0", "F16")),
    "checkpoint": lambda shapes: prefixed(city96(shapes, "F16", "F16")),
    "calcuis": lambda shapes: calcuis(shapes, "Q8_0", "BF16"),
}
MODELS = {  # channels in and out, the host's class
    "T2V": (16, 16, "WAN21"),
    "I2V": (36, 16, "WAN21"),
    "TI2V": (48, 48, "WAN22"),
}

# As in test_models.py: the same float32 weights, products added in another order.
TOLERANCE = 1e-4


def wan_shapes(model: str) -> dict[str, tuple[int, ...]]:
    channels, out, _ = MODELS[model]
    return shapes_of(wan_tensors(layers=1, channels=channels, out=out))


def exact_values(shapes, seed=0) -> dict[str, np.ndarray]:
    """{name: float32}: norms around 1, matrices with a variance of about 1/K, biases and modulation small."""
    rng = np.random.default_rng(seed)
    values = {}
    for name, shape in shapes.items():
        is_norm = "norm" in name and name.endswith("weight")
        numbers = rng.integers(32 if is_norm else -127, 128, shape).reshape(-1, 32)
        numbers[:, 0] = 127
        fan_in = math.prod(shape[1:]) if name.endswith("weight") else 256
        exponent = 6 if is_norm else round(math.log2(73 * math.sqrt(fan_in)))  # 73: deviation of -127..127
        values[name] = np.float32(numbers.reshape(shape) * 2.0**-exponent)
    return values


def write(path, file, values, extra=None):
    """The file with these values, encoded by gguf-py; `extra` are the bytes of other tensors."""
    contents = dict(extra or {})
    for name, stored in file.tensors.items():
        if stored.of:
            kind = gguf.GGMLQuantizationType[stored.type_name]
            contents[name] = gguf.quants.quantize(values[stored.of].reshape(1, -1), kind).tobytes()
    path.write_bytes(gguf_bytes(file.types(), file.metadata, contents=contents))
    return path


def weights_of(module) -> dict[str, torch.Tensor]:
    """{name: decoded}, with the names of the file."""
    return {
        name: param.dequantize() if isinstance(param, QuantizedTensor) else param
        for name, param in module.named_parameters()
    }


def assert_equal_weights(module, values) -> None:
    weights = weights_of(module)
    assert weights.keys() == values.keys()
    for name, weight in weights.items():
        assert torch.equal(weight, torch.from_numpy(values[name])), name


def test_the_values_are_stored_without_rounding():
    values = exact_values(wan_shapes("T2V"))
    for name in ("blocks.0.norm3.weight", "blocks.0.ffn.0.weight", "patch_embedding.weight"):
        row = values[name].reshape(1, -1)
        for kind in (gguf.GGMLQuantizationType[each] for each in ("F32", "F16", "BF16", "Q8_0")):
            assert np.array_equal(gguf.quants.dequantize(gguf.quants.quantize(row, kind), kind), row), (name, kind)


CASES = [("T2V", dialect) for dialect in WAN_DIALECTS]
CASES += [(model, dialect) for model in ("I2V", "TI2V") for dialect in ("QuantStack", "stable-diffusion.cpp")]


@pytest.mark.parametrize(("model", "dialect"), CASES)
def test_the_weights_of_every_dialect(model, dialect, tmp_path):
    values = exact_values(wan_shapes(model))
    path = write(tmp_path / "wan.gguf", WAN_DIALECTS[dialect](wan_shapes(model)), values)
    loaded = load_diffusion_model(path).model
    assert type(loaded).__name__ == MODELS[model][2]
    assert_equal_weights(loaded.diffusion_model, values)


def test_the_dialects_sample_what_the_stock_loader_samples(load_stock, ksample, tmp_path):
    values = exact_values(wan_shapes("T2V"))
    stock = ksample(load_stock({name: torch.from_numpy(value) for name, value in values.items()}), steps=1)
    assert stock.abs().mean() > 0.1
    differences = {}
    for dialect in ("QuantStack", "stable-diffusion.cpp", "checkpoint", "calcuis"):
        path = write(tmp_path / "wan.gguf", WAN_DIALECTS[dialect](wan_shapes("T2V")), values)
        differences[dialect] = float((ksample(load_diffusion_model(path), steps=1) - stock).abs().max())
        path.unlink()  # a new file: the last one may still be mapped
    assert max(differences.values()) < TOLERANCE, differences


@pytest.mark.parametrize("dialect", ["city96", "stable-diffusion.cpp", "calcuis"])
def test_k_quants_and_i_quants_are_decoded_as_gguf_py_does(dialect, tmp_path):
    """Norms and modulation in Q6_K too, as stable-diffusion.cpp leaves them."""
    makers = {"city96": lambda s: city96(s, "Q4_K_M"), "stable-diffusion.cpp": lambda s: sd_cpp(s, "Q6_K")}
    shapes, rng = wan_shapes("TI2V"), np.random.default_rng(1)
    file = makers.get(dialect, lambda s: calcuis(s, "IQ4_NL"))(shapes)
    contents, values = {}, {}
    for name, (type_name, shape) in file.types().items():
        contents[name] = random_bytes(type_name, math.prod(shape) // FORMATS[type_name].block_elems, rng)
        raw = np.frombuffer(bytearray(contents[name]), np.uint8).reshape(1, -1)
        decoded = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[type_name])
        values[name] = np.float32(decoded).reshape(shapes[name])
    path = tmp_path / "wan.gguf"
    path.write_bytes(gguf_bytes(file.types(), file.metadata, contents=contents))
    assert_equal_weights(load_diffusion_model(path).model.diffusion_model, values)


def tokenizer_keys(spiece_model: bytes) -> dict[str, bytes]:
    """The tokenizer as llama.cpp's converter writes it."""
    model = sentencepiece.SentencePieceProcessor(model_proto=spiece_model)
    pieces = range(model.get_piece_size())
    kinds = [(model.is_unknown, 2), (model.is_control, 3), (model.is_byte, 6)]
    return {
        "tokenizer.ggml.model": text("t5"),
        "tokenizer.ggml.tokens": array("str", [model.id_to_piece(i) for i in pieces]),
        "tokenizer.ggml.scores": array("f32", [model.get_score(i) for i in pieces]),
        "tokenizer.ggml.token_type": array("i32", [next((k for is_kind, k in kinds if is_kind(i)), 1) for i in pieces]),
        "tokenizer.ggml.add_space_prefix": scalar("bool", True),
        "tokenizer.ggml.remove_extra_whitespaces": scalar("bool", True),
        "tokenizer.ggml.eos_token_id": scalar("u32", 1),
        "tokenizer.ggml.padding_token_id": scalar("u32", 0),
    }


UMT5_DIALECTS = {
    "t5encoder": lambda shapes, keys, size: llama_cpp(shapes, "Q8_0", tokenizer=keys),
    "F16 position biases": lambda shapes, keys, size: llama_cpp(shapes, "Q8_0", relative_bias="F16", tokenizer=keys),
    "t5, with decoder": lambda shapes, keys, size: llama_cpp(shapes, "Q8_0", "t5", tokenizer=keys),
    "T5's names": lambda shapes, keys, size: t5_names(shapes, "Q8_0", "t5encoder", tokenizer=keys),
    "calcuis": lambda shapes, keys, size: t5_names(shapes, "Q8_0", "pig", spiece_bytes=size),
}


@pytest.fixture
def umt5_of(spiece_model, tmp_path):
    """umt5_of(dialect) -> (the CLIP of a file of that dialect, its values)."""
    n_tokens = sentencepiece.SentencePieceProcessor(model_proto=spiece_model).get_piece_size()
    shapes = shapes_of(umt5_tensors(64, 128, 4, 16, 2, n_tokens, llama_names=False))
    values, keys = exact_values(shapes), tokenizer_keys(spiece_model)
    as_f16 = np.frombuffer(spiece_model, np.uint8).astype(np.float16).tobytes()

    def load(dialect):
        file = UMT5_DIALECTS[dialect](shapes, keys, len(spiece_model))
        path = write(tmp_path / f"{len(list(tmp_path.iterdir()))}.gguf", file, values, {"spiece_model": as_f16})
        return load_text_encoder(path), values

    return load


@pytest.mark.parametrize("dialect", [name for name in UMT5_DIALECTS if name != "t5encoder"])
def test_the_text_encoder_of_every_dialect(dialect, umt5_of):
    """Bit for bit: the matrices are Q8_0 in all of them, the position biases exact in F32 and F16."""
    clip, values = umt5_of(dialect)
    transformer = clip.cond_stage_model.umt5xxl.transformer
    assert_equal_weights(transformer, values)
    plain, _ = umt5_of("t5encoder")
    prompt = "a red circle 红色的圆形向左移动，在白色背景上 🙂"
    ours, expected = (each.encode_from_tokens_scheduled(each.tokenize(prompt))[0][0] for each in (clip, plain))
    assert expected.abs().max() > 0.1
    assert torch.equal(ours, expected)
