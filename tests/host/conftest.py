"""Tiny random models of the real architectures: Wan and UMT5 as GGUF files, and the same decoded weights dense.

Quantised types come from gguf-py; K-quants, which it cannot make, are random valid blocks. gguf-py decodes both.
"""

import io
import json

import gguf
import numpy as np
import pytest
import sentencepiece
import torch
from gguf import GGMLQuantizationType as Type

from wan_gguf.host.models import load_diffusion_model
from wan_gguf.loaders.umt5 import umt5_shapes
from wan_gguf.loaders.wan_config import wan_shapes

WAN = {
    "model_type": "t2v", "in_dim": 16, "out_dim": 16, "dim": 256, "ffn_dim": 512, "freq_dim": 256, "text_dim": 256,
    "num_heads": 2, "num_layers": 2, "qk_norm": True, "cross_attn_norm": True,
}  # fmt: skip
UMT5 = {
    "d_model": 64, "d_ff": 128, "d_kv": 16, "num_heads": 4, "num_layers": 2, "relative_attention_num_buckets": 32,
}  # fmt: skip

# every matmul type in one model
WAN_TYPES = {
    "self_attn.q": Type.Q8_0, "self_attn.k": Type.Q4_0, "self_attn.v": Type.Q6_K, "self_attn.o": Type.Q4_K,
    "cross_attn.q": Type.F16, "cross_attn.k": Type.BF16, "ffn.0": Type.Q4_K, "ffn.2": Type.Q8_0,
    "time_projection": Type.F16, "head.head": Type.Q4_0,  # 9 KiB: small enough for the host to load it dense
}  # fmt: skip
WAN_METADATA = {"config": json.dumps({"transformer": {"num_heads": WAN["num_heads"], "text_dim": WAN["text_dim"]}})}


def _fp16_bytes(values):
    return values.astype(np.float16).view(np.uint8).reshape(len(values), 2)


def _random_k_blocks(rng, n_blocks, kind, std):
    """Random valid blocks whose weights have about the given standard deviation."""
    raw = rng.integers(0, 256, (n_blocks, {Type.Q4_K: 144, Type.Q6_K: 210}[kind]), dtype=np.uint8)
    if kind == Type.Q4_K:  # w = d * sc * q - dmin * mn, sc and mn 0..63, q 0..15
        d = rng.uniform(0.8, 1.2, n_blocks) * std / 260
        raw[:, 0:2], raw[:, 2:4] = _fp16_bytes(d), _fp16_bytes(7.5 * d)
    else:  # w = d * sc * (q - 32), sc int8, q 0..63
        raw[:, 208:210] = _fp16_bytes(rng.uniform(0.8, 1.2, n_blocks) * std / 1370)
    return raw


def _encode(rng, name, shape, kind):
    """(bytes or floats as GGUFWriter takes them, decoded float32)."""
    std = 1 / np.sqrt(shape[-1]) if len(shape) > 1 else 0.1
    if kind in (Type.Q4_K, Type.Q6_K):
        raw = _random_k_blocks(rng, int(np.prod(shape)) // 256, kind, std).reshape(*shape[:-1], -1)
    else:
        values = rng.normal(0, std, shape).astype(np.float32)
        if "norm" in name and name.endswith("weight"):
            values += 1
        raw = gguf.quants.quantize(values, kind)
    return raw, np.ascontiguousarray(gguf.quants.dequantize(raw, kind).reshape(shape).astype(np.float32))


def _kind(name, shape, types):
    if len(shape) != 2:
        return Type.F32
    return next((kind for part, kind in types.items() if part in name), Type.F32)


@pytest.fixture(scope="session")
def make_wan(tmp_path_factory):
    """make_wan(seed=0, types=..., **config) -> (path of a GGUF, the same weights as a dense float32 state dict)."""

    def make(seed=0, types=WAN_TYPES, **config):
        rng = np.random.default_rng(seed)
        path = tmp_path_factory.mktemp("wan") / f"tiny_{seed}.gguf"
        writer = gguf.GGUFWriter(path, "wan")
        dense = {}
        for name, shape in wan_shapes({**WAN, **config}).items():
            kind = _kind(name, shape, types)
            raw, values = _encode(rng, name, shape, kind)
            dense[name] = torch.from_numpy(values)
            if len(shape) == 5:  # GGUF has four dimensions
                raw = raw.reshape(shape[0], shape[1], *shape[3:])
            writer.add_tensor(name, raw, raw_dtype=kind)
        _write(writer)
        return path, dense

    return make


def _write(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="session")
def wan_file(make_wan):
    """One tiny Wan for the tests that only read it."""
    return make_wan()


@pytest.fixture(scope="session")
def spiece_model():
    """A small bilingual sentencepiece model with byte fallback, serialized."""
    rng = np.random.default_rng(9)
    english = ["a", "red", "blue", "green", "circle", "square", "triangle", "moves", "left", "right", "slowly", "on"]
    chinese = ["红色的", "蓝色的", "绿色的", "圆形", "方形", "三角形", "向左移动", "向右移动", "在白色背景上"]
    lines = [" ".join(rng.choice(english, 8)) for _ in range(400)] + [
        "".join(rng.choice(chinese, 5)) for _ in range(400)
    ]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=400, model_type="unigram", byte_fallback=True,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, normalization_rule_name="identity", hard_vocab_limit=False,
        minloglevel=2,
    )  # fmt: skip
    return model.getvalue()


LLAMA_LEAVES = {
    "layer.0.SelfAttention.q": "attn_q", "layer.0.SelfAttention.k": "attn_k", "layer.0.SelfAttention.v": "attn_v",
    "layer.0.SelfAttention.o": "attn_o", "layer.0.SelfAttention.relative_attention_bias": "attn_rel_b",
    "layer.0.layer_norm": "attn_norm", "layer.1.layer_norm": "ffn_norm", "layer.1.DenseReluDense.wi_0": "ffn_gate",
    "layer.1.DenseReluDense.wi_1": "ffn_up", "layer.1.DenseReluDense.wo": "ffn_down",
}  # fmt: skip


def _llama_name(name):
    if name == "shared.weight":
        return "token_embd.weight"
    if name == "encoder.final_layer_norm.weight":
        return "enc.output_norm.weight"
    _, _, index, leaf = name.removesuffix(".weight").split(".", 3)
    return f"enc.blk.{index}.{LLAMA_LEAVES[leaf]}.weight"


@pytest.fixture(scope="session")
def umt5_file(tmp_path_factory, spiece_model):
    """(path of a tiny UMT5 GGUF in llama.cpp naming, dense float32 state dict with the tokenizer, config)."""
    rng = np.random.default_rng(5)
    processor = sentencepiece.SentencePieceProcessor(model_proto=spiece_model)
    size = processor.get_piece_size()
    config = {**UMT5, "vocab_size": size}
    path = tmp_path_factory.mktemp("umt5") / "tiny_umt5.gguf"
    writer = gguf.GGUFWriter(path, "t5encoder")
    dense = {"spiece_model": torch.frombuffer(bytearray(spiece_model), dtype=torch.uint8)}
    for name, shape in umt5_shapes(config).items():
        kind = Type.Q8_0 if len(shape) == 2 and shape[-1] % 32 == 0 else Type.F32
        raw, values = _encode(rng, name, shape, kind)
        dense[name] = torch.from_numpy(values)
        writer.add_tensor(_llama_name(name), raw, raw_dtype=kind)
    writer.add_tokenizer_model("t5")
    writer.add_token_list([processor.id_to_piece(i) for i in range(size)])
    writer.add_token_scores([processor.get_score(i) for i in range(size)])
    writer.add_token_types([_piece_type(processor, i) for i in range(size)])
    writer.add_add_space_prefix(True)
    writer.add_remove_extra_whitespaces(True)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(0)
    _write(writer)
    return path, dense, config


def _piece_type(processor, i):
    kinds = ((processor.is_unknown, 2), (processor.is_control, 3), (processor.is_byte, 6), (processor.is_unused, 5))
    return next((kind for test, kind in kinds if test(i)), 1)


@pytest.fixture(autouse=True)
def _as_the_host_executes_nodes():
    """The host runs nodes under inference mode and leaves models loaded between them; a test starts with none."""
    import comfy.model_management

    with torch.inference_mode():
        yield
        comfy.model_management.unload_all_models()


LORA_LAYERS = ("blocks.0.self_attn.q", "blocks.0.self_attn.v", "blocks.1.self_attn.o", "blocks.0.cross_attn.k",
               "blocks.1.ffn.0", "blocks.1.ffn.2", "time_projection.1", "head.head")  # fmt: skip


@pytest.fixture(scope="session")
def make_lora(wan_file):
    """make_lora(seed, strength) -> a LoRA file's state dict: low-rank pairs with an int64 alpha, as in Lightning."""

    def make(seed=0, strength=0.1, layers=LORA_LAYERS, rank=8):
        generator = torch.Generator().manual_seed(seed)
        lora = {}
        for layer in layers:
            n, k = wan_file[1][f"{layer}.weight"].shape
            lora[f"diffusion_model.{layer}.lora_up.weight"] = torch.randn(n, rank, generator=generator) * strength
            lora[f"diffusion_model.{layer}.lora_down.weight"] = torch.randn(rank, k, generator=generator) * strength
            lora[f"diffusion_model.{layer}.alpha"] = torch.tensor(rank // 2)
        return lora

    return make


@pytest.fixture(scope="session")
def add_lora():
    """add_lora(model, lora, strength) -> what the stock LoraLoaderModelOnly node returns."""
    import comfy.sd

    return lambda model, lora, strength=1.0: comfy.sd.load_lora_for_models(model, None, dict(lora), strength, 0)[0]


@pytest.fixture
def ksample(conditioning):
    """ksample(model) -> the latent of the stock KSampler node."""
    import comfy.sample

    def sample(model, steps=2, cfg=3.0, sampler="euler", seed=7, positive=None, **kwargs):
        latent = torch.zeros(1, 16, 3, 8, 8)
        noise = comfy.sample.prepare_noise(latent, seed)
        return comfy.sample.sample(
            model, noise, steps, cfg, sampler, "simple", positive or conditioning(1), conditioning(2), latent,
            seed=seed, disable_pbar=True, **kwargs,
        )  # fmt: skip

    return sample


@pytest.fixture
def load_stock():
    """load_stock(dense) -> decoded weights of a tiny Wan in float32, loaded by the stock loader."""
    import comfy.sd

    def load(dense):
        weights = {name: value.clone() for name, value in dense.items()}
        return comfy.sd.load_diffusion_model_state_dict(weights, {"dtype": torch.float32}, WAN_METADATA)

    return load


@pytest.fixture
def stock_wan(wan_file, load_stock):
    """The dense twin of `wan_file`."""
    return load_stock(wan_file[1])


@pytest.fixture
def conditioning():
    """conditioning(seed) -> CONDITIONING of 16 tokens, as a text encoder gives it."""

    def make(seed, width=WAN["text_dim"]):
        values = torch.randn(1, 16, width, generator=torch.Generator().manual_seed(seed))
        return [[values, {"pooled_output": None}]]

    return make


@pytest.fixture(autouse=True)
def auto_is_float32(monkeypatch):
    """On every machine: where bf16 is native, "auto" would take it, and these tests compare with float32."""
    monkeypatch.setattr("wan_gguf.host.models.has_native_bf16", lambda: False)


@pytest.fixture(autouse=True)
def user_folder(tmp_path_factory, monkeypatch):
    """The host's user folder, where the embedding cache is; a new one for every test."""
    import folder_paths

    folder = tmp_path_factory.mktemp("user")
    monkeypatch.setattr(folder_paths, "user_directory", str(folder))
    monkeypatch.delenv("WAN_GGUF_CACHE_MB", raising=False)
    return folder


@pytest.fixture(scope="module")
def low_file(make_wan):
    """The file of a second expert: the same model with other weights."""
    return make_wan(seed=1)[0]


@pytest.fixture
def high(wan_file):
    """The high-noise expert, loaded."""
    return load_diffusion_model(wan_file[0])


@pytest.fixture
def low(low_file):
    """The low-noise expert, loaded."""
    return load_diffusion_model(low_file)


@pytest.fixture
def two_threads():
    """torch has two: the host's own VAE gives what steady_vae gives then, and may round differently otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
