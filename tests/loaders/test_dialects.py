"""Every dialect of Wan and UMT5 files loads: small ones value by value, those of full size by their tables."""

import os
import re
import tracemalloc
from pathlib import Path

import pytest
import torch

from wan_gguf.loaders.describe import describe
from wan_gguf.loaders.gguf import open_gguf
from wan_gguf.loaders.identify import WrongModelError
from wan_gguf.loaders.umt5 import load_umt5
from wan_gguf.loaders.wan import load_wan
from wan_gguf.ops.dequantize import dequantize
from wan_gguf.tests.loaders.build import array, gguf_bytes, sparse_gguf
from wan_gguf.tests.loaders.dialects import DialectFile, Stored, calcuis, city96, prefixed, rearranged, sd_cpp
from wan_gguf.tests.loaders.dialects_umt5 import llama_cpp, t5_names
from wan_gguf.tests.loaders.models import (
    TOKENIZER,
    WAN_MODELS,
    shapes_of,
    umt5_shapes_of_t5,
    umt5_xxl_shapes,
    wan_model_shapes,
    wan_tensors,
)

WAN_DIALECTS = {
    "QuantStack": lambda shapes: city96(shapes, "Q4_K_M", "F16"),
    "jayn7": lambda shapes: city96(shapes, "Q3_K_M", "BF16"),
    "hum-ma": lambda shapes: city96(shapes, "Q5_0", "F32"),
    "city96, Wan2.1": lambda shapes: city96(shapes, "Q4_K_S", "F32 kept"),
    "unquantised F16": lambda shapes: city96(shapes, "F16", "F16"),
    "unquantised BF16": lambda shapes: city96(shapes, "BF16", "BF16"),
    "stable-diffusion.cpp": lambda shapes: sd_cpp(shapes, "Q6_K"),
    "stable-diffusion.cpp, F16 checkpoint": lambda shapes: sd_cpp(shapes, "Q8_0", "F16"),
    "stable-diffusion.cpp, diffusion model": lambda shapes: prefixed(sd_cpp(shapes, "Q4_0")),
    "checkpoint": lambda shapes: prefixed(city96(shapes)),
    "calcuis": lambda shapes: calcuis(shapes, "IQ4_NL", "BF16"),
    "calcuis, F16": lambda shapes: calcuis(shapes, "Q2_K", "F16", "cow"),
    "calcuis, prefix": lambda shapes: prefixed(calcuis(shapes, "Q5_K", "F32"), "diffusion_model."),
}

SMALL_MODELS = {  # channels in, out, image branch
    "T2V": (16, 16, False),
    "I2V of Wan2.2": (36, 16, False),
    "TI2V": (48, 48, False),
    "I2V of Wan2.1": (36, 16, True),
}


def small_shapes(model: str, **sizes: int) -> dict[str, tuple[int, ...]]:
    channels, out, image = SMALL_MODELS[model]
    return shapes_of(wan_tensors(**{"layers": 1, **sizes}, channels=channels, out=out, image=image))


def write(path: Path, file: DialectFile) -> Path:
    path.write_bytes(gguf_bytes(file.types(), file.metadata))
    return path


def assert_same_values(tensors, path, file: DialectFile) -> None:
    """Every tensor of the model, decoded, is the one that the file stores for it, decoded as it lies there."""
    places = {stored.of: name for name, stored in file.tensors.items() if stored.of}
    assert set(tensors) == set(places)
    with open_gguf(path) as stored:
        for name, packed in tensors.items():
            assert torch.equal(dequantize(packed).flatten(), dequantize(stored.packed(places[name])).flatten()), name


MAIN_DIALECTS = ("QuantStack", "stable-diffusion.cpp", "checkpoint", "calcuis")
SMALL_FILES = [("T2V", dialect) for dialect in WAN_DIALECTS]
SMALL_FILES += [(model, dialect) for model in SMALL_MODELS if model != "T2V" for dialect in MAIN_DIALECTS]


@pytest.mark.parametrize(("model", "dialect"), SMALL_FILES)
def test_small_wan_files(model, dialect, tmp_path):
    shapes = small_shapes(model)
    file = WAN_DIALECTS[dialect](shapes)
    path = write(tmp_path / "wan.gguf", file)
    loaded = load_wan(path)
    assert {name: packed.shape for name, packed in loaded.tensors.items()} == shapes
    channels, out, image = SMALL_MODELS[model]
    config = loaded.config
    assert (config["in_dim"], config["out_dim"], config["dim"], config["ffn_dim"]) == (channels, out, 256, 512)
    assert config["model_type"] == ("i2v" if image else "t2v")
    assert_same_values(loaded.tensors, path, file)
    assert describe(path).problem is None


def test_rows_that_were_cut_anew(tmp_path):
    """comfy.gguf.orig_shape: rows of 384 stored as rows of 256, in blocks of 256 that then straddle the real rows."""
    shapes = small_shapes("T2V", dim=384)
    file = rearranged(calcuis(shapes, "Q4_0", "F16"))
    cut = [name for name, stored in file.tensors.items() if stored.shape != shapes[name]]
    assert "blocks.0.self_attn.q.weight" in cut
    assert "patch_embedding.weight" in cut
    for name in cut:
        if name.startswith("blocks."):
            file.tensors[name] = Stored(name, "Q4_K", file.tensors[name].shape)
    path = write(tmp_path / "wan.gguf", file)
    loaded = load_wan(path)
    assert {name: packed.shape for name, packed in loaded.tensors.items()} == shapes
    assert_same_values(loaded.tensors, path, file)


def test_a_shape_recorded_in_bytes_is_not_the_shape(tmp_path):
    """As the gguf-connector records BF16: twice the last dimension."""
    file = calcuis(small_shapes("T2V"), "Q8_0", "BF16")
    name = "text_embedding.0.weight"
    assert file.metadata[f"comfy.gguf.orig_shape.{name}"] == array("i32", [256, 512])
    assert load_wan(write(tmp_path / "wan.gguf", file)).tensors[name].shape == (256, 256)


full_size = pytest.mark.skipif(os.name == "nt", reason="a file with a hole takes its full size on NTFS")

FULL_SIZE = {  # what the maker of such a file gives, and how describe() puts it
    "Wan2.2-T2V-A14B": ("QuantStack", "Wan T2V transformer, dim 5120, 40 layers, 16 channels, Q4_K+Q6_K"),
    "Wan2.2-I2V-A14B": ("QuantStack", "Wan I2V transformer, dim 5120, 40 layers, 16 channels, Q4_K+Q6_K"),
    "Wan2.2-TI2V-5B": ("QuantStack", "Wan TI2V transformer, dim 3072, 30 layers, 48 channels, Q4_K+Q6_K"),
    "Wan2.1-T2V-14B": ("city96, Wan2.1", "Wan T2V transformer, dim 5120, 40 layers, 16 channels, Q4_K+Q5_K"),
    "Wan2.1-T2V-1.3B": ("calcuis", "Wan T2V transformer, dim 1536, 30 layers, 16 channels, IQ4_NL"),
    "Wan2.1-I2V-14B": ("QuantStack", "Wan I2V transformer, dim 5120, 40 layers, 16 channels, Q4_K+Q6_K"),
}


@full_size
@pytest.mark.parametrize("model", FULL_SIZE)
def test_wan_files_of_full_size(model, tmp_path):
    dialect, summary = FULL_SIZE[model]
    dim, ffn, channels, out, layers, image, n_tensors = WAN_MODELS[model]
    file = WAN_DIALECTS[dialect](wan_model_shapes(model))
    path = sparse_gguf(tmp_path / "wan.gguf", file.types(), file.metadata)
    assert path.stat().st_size == file.nbytes()
    found = describe(path)
    assert (found.kind, found.summary, found.problem) == ("wan", summary, None)
    loaded = load_wan(path)
    assert len(loaded.tensors) == n_tensors
    assert {name: packed.shape for name, packed in loaded.tensors.items()} == wan_model_shapes(model)
    assert loaded.config == {
        "model_type": "i2v" if image else "t2v", "patch_size": (1, 2, 2), "text_len": 512, "in_dim": channels,
        "dim": dim, "ffn_dim": ffn, "freq_dim": 256, "text_dim": 4096, "out_dim": out, "num_heads": dim // 128,
        "num_layers": layers, "window_size": (-1, -1), "qk_norm": True, "cross_attn_norm": True, "eps": 1e-6,
    }  # fmt: skip


@full_size
def test_a_stable_diffusion_cpp_file_of_full_size(tmp_path):
    file = prefixed(sd_cpp(wan_model_shapes("Wan2.2-TI2V-5B"), "Q6_K"))
    path = sparse_gguf(tmp_path / "wan.gguf", file.types())
    assert describe(path).summary == "Wan TI2V transformer, dim 3072, 30 layers, 48 channels, Q6_K"
    loaded = load_wan(path)
    assert loaded.tensors["patch_embedding.weight"].shape == (3072, 48, 1, 2, 2)
    assert loaded.tensors["blocks.29.modulation"].shape == (1, 6, 3072)
    assert loaded.tensors["blocks.0.norm3.weight"].format.name == "Q6_K"


XXL_TOKENS = ["<pad>", "</s>", "<unk>", *(f"token {i}" for i in range(256_384 - 3))]


def xxl_tokenizer() -> dict[str, bytes]:
    n = len(XXL_TOKENS)
    return TOKENIZER | {
        "tokenizer.ggml.tokens": array("str", XXL_TOKENS),
        "tokenizer.ggml.scores": array("f32", [0.0] * n),
        "tokenizer.ggml.token_type": array("i32", [3, 3, 2] + [1] * (n - 3)),
    }


@full_size
def test_a_umt5_file_of_full_size(tmp_path):
    tokenizer = xxl_tokenizer()
    del tokenizer["general.architecture"]
    file = llama_cpp(umt5_xxl_shapes(), "Q5_K_M", tokenizer=tokenizer)
    path = sparse_gguf(tmp_path / "umt5.gguf", file.types(), file.metadata)
    summary = "UMT5 text encoder, width 4096, 24 layers, 256384 tokens, Q5_K+Q6_K"
    found = describe(path)
    assert (found.kind, found.summary, found.problem) == ("umt5", summary, None)
    loaded = load_umt5(path)
    sizes = ("vocab_size", "d_model", "d_ff", "d_kv", "num_heads", "num_layers")
    assert tuple(loaded.config[size] for size in sizes) == (256384, 4096, 10240, 64, 64, 24)
    assert {name: packed.shape for name, packed in loaded.tensors.items()} == umt5_xxl_shapes()
    assert loaded.tensors["shared.weight"].format.name == "Q6_K"
    assert b"token 256380" in loaded.spiece_model


def anonymous_bytes() -> int:
    """Memory of this process that is not a view of a file, torch's included."""
    status = Path("/proc/self/status")
    if not status.is_file():
        pytest.skip("/proc/self/status, of Linux, says which memory is a view of a file")
    return 1024 * int(re.search(r"RssAnon:\s*(\d+) kB", status.read_text())[1])


@full_size
def test_loading_nine_gigabytes_takes_a_few_megabytes(tmp_path):
    """Names, shapes and views take under 1 kB for each of 1095 tensors; one matrix copied would be 14.7 MB packed."""
    file = WAN_DIALECTS["QuantStack"](wan_model_shapes("Wan2.2-T2V-A14B"))
    path = sparse_gguf(tmp_path / "wan.gguf", file.types(), file.metadata)
    load_wan(path)  # what the first call imports and caches stays out of the measure
    before = anonymous_bytes()
    tracemalloc.start()
    try:
        loaded = load_wan(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(packed.nbytes for packed in loaded.tensors.values()) > 9.6e9
    assert peak < 4e6
    assert anonymous_bytes() - before < 8e6


UMT5_DIALECTS = {
    "city96": llama_cpp(umt5_shapes_of_t5(), "Q5_K_M", tokenizer=TOKENIZER),
    "city96, Q3_K_M": llama_cpp(umt5_shapes_of_t5(), "Q3_K_M", tokenizer=TOKENIZER),
    "Able2": llama_cpp(umt5_shapes_of_t5(), "Q4_K_M", relative_bias="F16", tokenizer=TOKENIZER),
    "t5, with decoder": llama_cpp(umt5_shapes_of_t5(), "Q8_0", "t5", tokenizer=TOKENIZER),
    "unquantised": llama_cpp(umt5_shapes_of_t5(), "BF16", relative_bias="BF16", tokenizer=TOKENIZER),
    "T5's names": t5_names(umt5_shapes_of_t5(), "Q6_K", "t5encoder", tokenizer=TOKENIZER),
    "calcuis": t5_names(umt5_shapes_of_t5(), "IQ4_NL", "pig", spiece_bytes=400),
    "calcuis, cow": t5_names(umt5_shapes_of_t5(), "F16", "cow", spiece_bytes=400),
}


@pytest.mark.parametrize("dialect", UMT5_DIALECTS)
def test_small_umt5_files(dialect, tmp_path):
    file = UMT5_DIALECTS[dialect]
    model = bytes(range(256)) + bytes(144)
    contents = {"spiece_model": as_floats(model, "F16")}
    path = tmp_path / "umt5.gguf"
    path.write_bytes(gguf_bytes(file.types(), file.metadata, contents=contents))
    loaded = load_umt5(path)
    assert {name: packed.shape for name, packed in loaded.tensors.items()} == umt5_shapes_of_t5()
    assert_same_values(loaded.tensors, path, file)
    assert (loaded.spiece_model == model) if "calcuis" in dialect else (b"p296" in loaded.spiece_model)
    found = describe(path)
    assert (found.kind, found.problem) == ("umt5", None)
    types = {stored.type_name for name, stored in file.tensors.items() if name != "spiece_model"}
    assert set(found.summary.rsplit(", ", 1)[1].split("+")) <= types


def as_floats(model: bytes, type_name: str) -> bytes:
    dtype = {"F16": torch.float16, "F32": torch.float32, "BF16": torch.bfloat16}[type_name]
    return torch.frombuffer(bytearray(model), dtype=torch.uint8).to(dtype).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("type_name", ["F16", "BF16", "F32"])
def test_a_tokenizer_stored_as_floats(type_name, tmp_path):
    file = t5_names(umt5_shapes_of_t5(), spiece_bytes=256)
    file.tensors["spiece_model"] = Stored(None, type_name, (256,))
    contents = {"spiece_model": as_floats(bytes(range(256)), type_name)}
    (tmp_path / "a.gguf").write_bytes(gguf_bytes(file.types(), file.metadata, contents=contents))
    assert load_umt5(tmp_path / "a.gguf").spiece_model == bytes(range(256))


@pytest.mark.parametrize("value", [0.5, -1.0, 256.0, float("nan")])
def test_floats_that_are_no_bytes_are_refused(value, tmp_path):
    file = t5_names(umt5_shapes_of_t5(), spiece_bytes=3)
    contents = {"spiece_model": torch.tensor([1, value, 2], dtype=torch.float16).view(torch.uint8).numpy().tobytes()}
    (tmp_path / "a.gguf").write_bytes(gguf_bytes(file.types(), file.metadata, contents=contents))
    with pytest.raises(WrongModelError, match=r"a.gguf: tensor spiece_model: has values other than the whole numbers"):
        load_umt5(tmp_path / "a.gguf")


VARIANTS = {  # a tensor that only the variant has, in a file that was not fixed and lacks those of five dimensions
    "VACE": "vace_blocks.0.before_proj.weight",
    "camera control": "control_adapter.conv.weight",
    "S2V": "casual_audio_encoder.encoder.final_linear.weight",
    "HuMo": "audio_proj.audio_proj_glob_1.layer.weight",
    "Animate": "face_adapter.fuser_blocks.0.k_norm.weight",
    "SCAIL": "patch_embedding_pose.bias",
    "WanDancer": "patch_embedding_global.bias",
    "MultiTalk": "blocks.0.audio_cross_attn.q_linear.weight",
    "reference control": "ref_conv.weight",
}


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_refused_by_its_name(variant, fixed, tmp_path):
    shapes = small_shapes("T2V") | {VARIANTS[variant]: (256, 256)}
    if not fixed:
        del shapes["patch_embedding.weight"]
    path = write(tmp_path / "wan.gguf", prefixed(city96(shapes)))
    message = f"wan.gguf: is a Wan {variant} model, which is not supported; use a T2V, I2V or TI2V model"
    with pytest.raises(WrongModelError) as caught:
        load_wan(path)
    assert str(caught.value) == describe(path).summary == message


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_a_file_that_was_not_fixed_names_the_remedy(prefix, tmp_path):
    shapes = small_shapes("I2V of Wan2.2")
    del shapes["patch_embedding.weight"]
    path = write(tmp_path / "wan.gguf", prefixed(city96(shapes), prefix))
    with pytest.raises(WrongModelError, match=r"patch_embedding.weight is missing: .*\(fix_5d_tensors.py\); download"):
        load_wan(path)


OTHERS = {
    "condition_embedder.time_embedder.linear_1.weight": "is a video model in diffusers naming; use the Wan file made",
    "vace_blocks.0.self_attn.q.weight": "is a Wan VACE module, which is not supported; use a T2V",
    "blocks.0.audio_cross_attn.proj.weight": "is a Wan MultiTalk module, which is not supported; use a T2V",
    "blocks.0.pos_embedding.embedding.weight": "is a UMT5 text encoder in the official repository's naming, without",
}


@pytest.mark.parametrize("name", OTHERS)
def test_relatives_of_wan_say_what_they_are(name, tmp_path):
    (tmp_path / "x.gguf").write_bytes(gguf_bytes({name: ("F16", (4, 4))}))
    assert describe(tmp_path / "x.gguf").summary.startswith(f"x.gguf: {OTHERS[name]}")
