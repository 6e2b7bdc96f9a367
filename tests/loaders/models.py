"""Names, shapes and types of the models' files, from compact descriptions that do not use the code under test."""

from wan_gguf.tests.loaders.build import array, packed_weight, text

WAN_BLOCK = [
    ("modulation", (1, 6, "dim")),
    *[(f"{a}.{leaf}.weight", ("dim", "dim")) for a in ("self_attn", "cross_attn") for leaf in "qkvo"],
    *[(f"{a}.{leaf}.bias", ("dim",)) for a in ("self_attn", "cross_attn") for leaf in "qkvo"],
    *[(f"{a}.norm_{leaf}.weight", ("dim",)) for a in ("self_attn", "cross_attn") for leaf in "qk"],
    ("norm3.weight", ("dim",)),
    ("norm3.bias", ("dim",)),
    ("ffn.0.weight", ("ffn", "dim")),
    ("ffn.0.bias", ("ffn",)),
    ("ffn.2.weight", ("dim", "ffn")),
    ("ffn.2.bias", ("dim",)),
]
WAN_IMAGE_BLOCK = [
    ("cross_attn.k_img.weight", ("dim", "dim")),
    ("cross_attn.k_img.bias", ("dim",)),
    ("cross_attn.v_img.weight", ("dim", "dim")),
    ("cross_attn.v_img.bias", ("dim",)),
    ("cross_attn.norm_k_img.weight", ("dim",)),
]
WAN_TOP = [
    ("patch_embedding.weight", ("dim", "in", 1, 2, 2)),
    ("patch_embedding.bias", ("dim",)),
    ("text_embedding.0.weight", ("dim", "text")),
    ("text_embedding.0.bias", ("dim",)),
    ("text_embedding.2.weight", ("dim", "dim")),
    ("text_embedding.2.bias", ("dim",)),
    ("time_embedding.0.weight", ("dim", "freq")),
    ("time_embedding.0.bias", ("dim",)),
    ("time_embedding.2.weight", ("dim", "dim")),
    ("time_embedding.2.bias", ("dim",)),
    ("time_projection.1.weight", ("6dim", "dim")),
    ("time_projection.1.bias", ("6dim",)),
    ("head.modulation", (1, 2, "dim")),
    ("head.head.weight", ("4out", "dim")),
    ("head.head.bias", ("4out",)),
]
WAN_IMAGE_TOP = [
    ("img_emb.proj.0.weight", (1280,)),
    ("img_emb.proj.0.bias", (1280,)),
    ("img_emb.proj.1.weight", (1280, 1280)),
    ("img_emb.proj.1.bias", (1280,)),
    ("img_emb.proj.3.weight", ("dim", 1280)),
    ("img_emb.proj.3.bias", ("dim",)),
    ("img_emb.proj.4.weight", ("dim",)),
    ("img_emb.proj.4.bias", ("dim",)),
]

# dim, ffn, in, out, layers, image branch; the official configurations (wan/configs) and the number of their tensors
WAN_MODELS = {
    "Wan2.2-T2V-A14B": (5120, 13824, 16, 16, 40, False, 1095),
    "Wan2.2-I2V-A14B": (5120, 13824, 36, 16, 40, False, 1095),
    "Wan2.2-TI2V-5B": (3072, 14336, 48, 48, 30, False, 825),
    "Wan2.1-T2V-14B": (5120, 13824, 16, 16, 40, False, 1095),
    "Wan2.1-T2V-1.3B": (1536, 8960, 16, 16, 30, False, 825),
    "Wan2.1-I2V-14B": (5120, 13824, 36, 16, 40, True, 1303),
}

Types = dict[str, tuple[str, tuple[int, ...]]]


def wan_tensors(
    dim: int = 256, ffn: int = 512, channels: int = 16, out: int = 16, layers: int = 2, image: bool = False,
    quantised: str = "Q4_K", plain: str = "F16", text_dim: int = 256,
) -> Types:  # fmt: skip
    """{name: (type, shape)} of a Wan transformer as the usual converters store it: matmuls in blocks quantised."""
    sizes = {"dim": dim, "ffn": ffn, "in": channels, "text": text_dim, "freq": 256, "6dim": 6 * dim, "4out": 4 * out}
    names = WAN_TOP + (WAN_IMAGE_TOP if image else [])
    for i in range(layers):
        names = names + [(f"blocks.{i}.{name}", s) for name, s in WAN_BLOCK + (WAN_IMAGE_BLOCK if image else [])]
    tensors = {}
    for name, symbols in names:
        shape = tuple(sizes[s] if isinstance(s, str) else s for s in symbols)
        is_matmul = name.startswith("blocks.") and len(shape) == 2
        tensors[name] = (quantised if is_matmul else "F32" if name == "patch_embedding.weight" else plain, shape)
    return tensors


def wan_model_shapes(model: str) -> dict[str, tuple[int, ...]]:
    """{name: logical shape} of one of WAN_MODELS."""
    dim, ffn, channels, out, layers, image, _ = WAN_MODELS[model]
    return shapes_of(wan_tensors(dim, ffn, channels, out, layers, image, text_dim=4096))


def shapes_of(tensors: Types) -> dict[str, tuple[int, ...]]:
    """{name: shape} without the types."""
    return {name: shape for name, (_, shape) in tensors.items()}


UMT5_BLOCK = [  # llama.cpp's name, T5's name, shape, quantised
    ("attn_q", "layer.0.SelfAttention.q", ("inner", "d_model"), True),
    ("attn_k", "layer.0.SelfAttention.k", ("inner", "d_model"), True),
    ("attn_v", "layer.0.SelfAttention.v", ("inner", "d_model"), True),
    ("attn_o", "layer.0.SelfAttention.o", ("d_model", "inner"), True),
    ("attn_rel_b", "layer.0.SelfAttention.relative_attention_bias", (32, "heads"), False),
    ("attn_norm", "layer.0.layer_norm", ("d_model",), False),
    ("ffn_gate", "layer.1.DenseReluDense.wi_0", ("d_ff", "d_model"), True),
    ("ffn_up", "layer.1.DenseReluDense.wi_1", ("d_ff", "d_model"), True),
    ("ffn_down", "layer.1.DenseReluDense.wo", ("d_model", "d_ff"), True),
    ("ffn_norm", "layer.1.layer_norm", ("d_model",), False),
]


def umt5_tensors(
    d_model: int = 256, d_ff: int = 512, heads: int = 4, d_kv: int = 64, layers: int = 2, vocab: int = 300,
    quantised: str = "Q8_0", llama_names: bool = True,
) -> Types:  # fmt: skip
    """{name: (type, shape)} of a UMT5 encoder."""
    sizes = {"d_model": d_model, "d_ff": d_ff, "inner": heads * d_kv, "heads": heads}
    embedding = "token_embd.weight" if llama_names else "shared.weight"
    norm = "enc.output_norm.weight" if llama_names else "encoder.final_layer_norm.weight"
    tensors: Types = {embedding: (quantised, (vocab, d_model)), norm: ("F32", (d_model,))}
    for i in range(layers):
        for llama, t5, symbols, is_matmul in UMT5_BLOCK:
            name = f"enc.blk.{i}.{llama}.weight" if llama_names else f"encoder.block.{i}.{t5}.weight"
            shape = tuple(sizes[s] if isinstance(s, str) else s for s in symbols)
            tensors[name] = (quantised if is_matmul else "F32", shape)
    return tensors


# A tokenizer of the right size, as llama.cpp's converter stores it.
VOCABULARY = 300
TOKENIZER = {
    "general.architecture": text("t5encoder"),
    "tokenizer.ggml.model": text("t5"),
    "tokenizer.ggml.tokens": array("str", ["<pad>", "</s>", "<unk>", *[f"p{i}" for i in range(VOCABULARY - 3)]]),
    "tokenizer.ggml.scores": array("f32", [0.0] * VOCABULARY),
    "tokenizer.ggml.token_type": array("i32", [3, 3, 2] + [1] * (VOCABULARY - 3)),
}


def umt5_shapes_of_t5() -> dict[str, tuple[int, ...]]:
    """{T5's name: logical shape} of the small encoder."""
    return shapes_of(umt5_tensors(llama_names=False))


def umt5_xxl_shapes() -> dict[str, tuple[int, ...]]:
    """{T5's name: logical shape} of the encoder that Wan uses."""
    return shapes_of(umt5_tensors(4096, 10240, 64, 64, 24, 256384, llama_names=False))


def safetensors_model(
    dtype: str = "F16", spiece: bytes | None = b"model bytes"
) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """The small encoder as the host's safetensors files are: T5's names and the tokenizer as a tensor of bytes."""
    tensors: dict[str, tuple[str, tuple[int, ...], bytes]] = {}
    for name, shape in umt5_shapes_of_t5().items():
        tensors[name] = (dtype, shape, packed_weight(dtype, shape).data.numpy().tobytes())
    if spiece is not None:
        tensors["spiece_model"] = ("U8", (len(spiece),), spiece)
    return tensors


# A Wan VAE by the tensors that tell its kind and width; loaders look at no others.
VAE_21 = {
    "conv2.weight": (16, 16, 1, 1, 1),
    "decoder.conv1.weight": (384, 16, 3, 3, 3),
    "decoder.middle.0.residual.0.gamma": (384, 1, 1, 1),
    "decoder.head.0.gamma": (96, 1, 1, 1),
}
VAE_22 = {
    "conv2.weight": (48, 48, 1, 1, 1),
    "decoder.conv1.weight": (1024, 48, 3, 3, 3),
    "decoder.middle.0.residual.0.gamma": (1024, 1, 1, 1),
    "decoder.upsamples.0.upsamples.0.residual.2.weight": (1024, 1024, 3, 3, 3),
}
