"""Every kind of source gives the same tensors under the same names; what is none is refused in one clear line."""

import json

import numpy as np
import pytest
import torch
from diffusers import WanTransformer3DModel

from wan_gguf.convert.errors import ConvertError
from wan_gguf.convert.source import open_source
from wan_gguf.convert.stored import _E4M3
from wan_gguf.loaders.diffusers_names import diffusers_module, official_name
from wan_gguf.loaders.identify import WrongModelError
from wan_gguf.loaders.safetensors_header import SafetensorsError
from wan_gguf.ops.dequantize import dequantize
from wan_gguf.tests.convert.build import decoded, entry, wan_values, write_safetensors, write_shards
from wan_gguf.tests.loaders.build import gguf_bytes, packed_weight, safetensors_bytes
from wan_gguf.tests.loaders.dialects import city96, sd_cpp
from wan_gguf.tests.loaders.models import shapes_of, wan_tensors


@pytest.fixture(scope="module")
def values() -> dict[str, torch.Tensor]:
    return wan_values()


def diffusers_values(values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    def name(official):
        if official.endswith("modulation"):
            return diffusers_module(official)
        module, _, part = official.rpartition(".")
        return f"{diffusers_module(module)}.{part}"

    return {name(official): value for official, value in values.items()}


def assert_same(source, values, dtype=torch.float16):
    found = decoded(source)
    assert found.keys() == values.keys()
    for name, numbers in found.items():
        assert np.array_equal(numbers, values[name].to(dtype).float().numpy()), name


@pytest.mark.parametrize(("dtype", "kind"), [("F16", torch.float16), ("BF16", torch.bfloat16), ("F32", torch.float32)])
def test_one_file(tmp_path, values, dtype, kind):
    source = open_source(write_safetensors(tmp_path / "a.safetensors", values, dtype))
    assert (source.kind, source.is_gguf, source.config["dim"]) == ("wan", False, 256)
    assert_same(source, values, kind)


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "diffusion_model."])
def test_a_prefix_is_stripped(tmp_path, values, prefix):
    prefixed = {prefix + name: value for name, value in values.items()}
    assert_same(open_source(write_safetensors(tmp_path / "a.safetensors", prefixed)), values)


def test_a_folder_of_parts_and_its_index(tmp_path, values):
    folder = write_shards(tmp_path / "high_noise_model", values)
    for path in (folder, folder / "diffusion_pytorch_model.safetensors.index.json"):
        source = open_source(path)
        assert_same(source, values)
        assert (len(source.files), source.expert) == (3, "high")


def test_a_folder_of_parts_without_index(tmp_path, values):
    folder = write_shards(tmp_path / "model", values)
    (folder / "diffusion_pytorch_model.safetensors.index.json").unlink()
    assert_same(open_source(folder), values)


def test_diffusers_names(tmp_path, values):
    (tmp_path / "transformer_2").mkdir()
    (tmp_path / "transformer").mkdir()
    for folder in ("transformer", "transformer_2"):
        write_safetensors(tmp_path / folder / "diffusion_pytorch_model.safetensors", diffusers_values(values))
    assert_same(open_source(tmp_path / "transformer"), values)
    assert open_source(tmp_path / "transformer").expert == "high"
    assert open_source(tmp_path / "transformer_2").expert == "low"


@pytest.mark.parametrize("image", [False, True])
def test_the_names_are_those_of_diffusers_own_class(image):
    with torch.device("meta"):
        model = WanTransformer3DModel(
            num_attention_heads=2, attention_head_dim=128, in_channels=16, out_channels=16, text_dim=256, freq_dim=256,
            ffn_dim=512, num_layers=2, cross_attn_norm=True, qk_norm="rms_norm_across_heads",
            image_dim=1280 if image else None, added_kv_proj_dim=256 if image else None,
        )  # fmt: skip
    theirs = {official_name(name): tuple(value.shape) for name, value in model.state_dict().items()}
    assert theirs == shapes_of(wan_tensors(image=image))


@pytest.mark.parametrize("scale_end", [".scale_weight", ".weight_scale"])
@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
@pytest.mark.parametrize("per_row", [False, True])
def test_scaled_8_bit_floats(tmp_path, values, scale_end, dtype, per_row):
    """As the host stores them: matrices of the blocks in 8 bits, each with a scale, and tensors that are no weights."""
    kind = {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}[dtype]
    stored, expected = {}, {}
    for name, value in values.items():
        if not (name.startswith("blocks.") and value.dim() == 2):
            stored[name], expected[name] = entry(value, "F16"), value.half().float()
            continue
        largest = value.abs().amax(1) if per_row else value.abs().amax().reshape(1)
        scale = largest / torch.finfo(kind).max
        shaped = scale[:, None] if per_row else scale
        stored[name] = entry(value / shaped, dtype)
        expected[name] = (value / shaped).to(kind).float() * shaped
        module = name.removesuffix(".weight")
        stored[module + scale_end] = entry(shaped if per_row else scale[0], "F32")
        stored[module + ".scale_input"] = entry(torch.tensor(1.0), "F32")
    stored["scaled_fp8"] = entry(torch.zeros(2), dtype)
    (tmp_path / "a.safetensors").write_bytes(safetensors_bytes(stored))
    found = decoded(open_source(tmp_path / "a.safetensors"))
    assert found.keys() == values.keys()
    for name, numbers in found.items():
        assert np.array_equal(numbers, expected[name].numpy()), name
        # half a step below the largest number, 1.75 * 2^e, with two bits of mantissa
        assert np.abs(numbers - values[name].numpy()).max() < values[name].abs().max() / 13


def test_all_values_of_an_e4m3_are_torch_s():
    theirs = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float().numpy()
    assert np.array_equal(_E4M3, theirs, equal_nan=True)
    assert np.array_equal(np.signbit(_E4M3[:255]), np.signbit(theirs[:255]))


def test_8_bit_floats_of_another_kind_are_refused(tmp_path, values):
    stored = {name: entry(value, "F16") for name, value in values.items()}
    note = json.dumps({"format": "nvfp4"}).encode()
    stored["blocks.0.ffn.0.comfy_quant"] = ("U8", (len(note),), note)
    (tmp_path / "a.safetensors").write_bytes(safetensors_bytes(stored))
    with pytest.raises(ConvertError, match=r"blocks.0.ffn.0.weight: is quantised as nvfp4; float8_e4m3fn and"):
        open_source(tmp_path / "a.safetensors")


def test_a_scale_of_another_shape_is_refused(tmp_path, values):
    stored = {name: entry(value, "F16") for name, value in values.items()}
    stored["blocks.0.ffn.0.weight"] = entry(values["blocks.0.ffn.0.weight"], "F8_E4M3")
    stored["blocks.0.ffn.0.weight_scale"] = entry(torch.ones(512, 2), "F32")
    (tmp_path / "a.safetensors").write_bytes(safetensors_bytes(stored))
    with pytest.raises(
        ConvertError, match=r"blocks.0.ffn.0.weight_scale: F32 of shape \(512, 2\) for a weight of shape"
    ):
        open_source(tmp_path / "a.safetensors")


@pytest.mark.parametrize("dialect", [city96, sd_cpp])
def test_gguf_of_other_makers(tmp_path, dialect):
    """Lost and folded dimensions come back, quantised norms are decoded: equal to the loader's own decoding."""
    shapes = shapes_of(wan_tensors())
    file = dialect(shapes, "Q8_0")
    contents = {
        name: packed_weight(stored.type_name, stored.shape, seed=i).data.numpy().tobytes()
        for i, (name, stored) in enumerate(file.tensors.items())
    }
    (tmp_path / "a.gguf").write_bytes(gguf_bytes(file.types(), file.metadata, contents=contents))
    source = open_source(tmp_path / "a.gguf")
    assert source.is_gguf
    found = decoded(source)
    for i, (name, stored) in enumerate(file.tensors.items()):
        expected = dequantize(packed_weight(stored.type_name, stored.shape, seed=i)).reshape(shapes[name])
        assert np.array_equal(found[name], expected.numpy()), name


def test_rows_that_begin_inside_a_block_are_decoded(tmp_path):
    """stable-diffusion.cpp folds the patch embedding; a row of 2 numbers lies inside a block of 32."""
    shapes = shapes_of(wan_tensors())
    tensors = {name: ("Q8_0" if name == "patch_embedding.weight" else "F32", shape) for name, shape in shapes.items()}
    tensors["patch_embedding.weight"] = ("Q8_0", (256, 64))
    contents = {"patch_embedding.weight": packed_weight("Q8_0", (256, 64), seed=3).data.numpy().tobytes()}
    (tmp_path / "a.gguf").write_bytes(gguf_bytes(tensors, contents=contents))
    patch = open_source(tmp_path / "a.gguf").tensors["patch_embedding.weight"]
    assert patch.shape == (256, 16, 1, 2, 2)
    expected = dequantize(packed_weight("Q8_0", (256, 64), seed=3)).view(-1, 2).numpy()
    assert np.array_equal(patch.rows(13, 61), expected[13:61])


def test_a_missing_part_is_named(tmp_path, values):
    folder = write_shards(tmp_path / "model", values)
    (folder / "diffusion_pytorch_model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ConvertError, match=r"1 of 3 parts are missing \(diffusion_pytorch_model-00002-of-00003.safe"):
        open_source(folder)
    (folder / "diffusion_pytorch_model.safetensors.index.json").unlink()
    with pytest.raises(ConvertError, match=r"1 of 3 parts are missing \(diffusion_pytorch_model-00002-of-00003.safe"):
        open_source(folder)


def test_one_part_alone_is_refused(tmp_path, values):
    folder = write_shards(tmp_path / "model", values)
    with pytest.raises(ConvertError, match="is one of 3 parts of a model; give its folder instead"):
        open_source(folder / "diffusion_pytorch_model-00002-of-00003.safetensors")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "has no weight_map"),
        ('{"weight_map": {"a": "../../etc/passwd"}}', "weight_map names no safetensors files beside it"),
        ('{"weight_map": {"a": "b.bin"}}', "weight_map names no safetensors files beside it"),
        ('{"weight_map": {}}', "weight_map names no safetensors files beside it"),
        ('{"weight_map": 3}', "has no weight_map"),
    ],
)
def test_bad_indices(tmp_path, text, message):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ConvertError, match=message):
        open_source(tmp_path)


def test_pickles_are_refused_unopened(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "models_t5_umt5-xxl-enc-bf16.pth")
    with pytest.raises(
        ConvertError, match=r"is a pickle \(.pt, .pth, .ckpt\), which can run code when opened; use the"
    ):
        open_source(tmp_path / "models_t5_umt5-xxl-enc-bf16.pth")
    with pytest.raises(ConvertError, match="holds pickles only, which can run code when opened; take the safetensors"):
        open_source(tmp_path)


def test_a_folder_of_several_models_asks_which(tmp_path, values):
    (tmp_path / "high").mkdir()
    write_safetensors(tmp_path / "high" / "a.safetensors", values)
    with pytest.raises(ConvertError, match="holds no safetensors file itself; give one of its folders: high"):
        open_source(tmp_path)
    write_safetensors(tmp_path / "high" / "b.safetensors", values)
    with pytest.raises(ConvertError, match=r"holds 2 models \(a.safetensors, b.safetensors\); give one file"):
        open_source(tmp_path / "high")


def test_other_models_and_damaged_files(tmp_path, values):
    flux = {"double_blocks.0.img_attn.qkv.weight": torch.zeros(4, 4)}
    with pytest.raises(WrongModelError, match="is a Flux model"):
        open_source(write_safetensors(tmp_path / "flux.safetensors", flux))
    incomplete = {name: value for name, value in values.items() if name != "blocks.1.ffn.0.bias"}
    with pytest.raises(WrongModelError, match=r"1 of \d+ tensors of a Wan transformer are missing"):
        open_source(write_safetensors(tmp_path / "a.safetensors", incomplete))
    short = write_safetensors(tmp_path / "b.safetensors", values)
    short.write_bytes(short.read_bytes()[:-10])
    with pytest.raises(SafetensorsError, match="the download is incomplete"):
        open_source(short)
    with pytest.raises(ConvertError, match="there is no such file or folder"):
        open_source(tmp_path / "nothing.safetensors")
    with pytest.raises(
        ConvertError, match=r"tensor blocks.0.ffn.0.bias: dtype I64; F32, F16, BF16, F8_E4M3, F8_E5M2 are"
    ):
        dtypes = {name: "I64" if name == "blocks.0.ffn.0.bias" else "F16" for name in values}
        open_source(write_safetensors(tmp_path / "c.safetensors", values, dtypes))


def test_a_tensor_in_two_parts_is_refused(tmp_path, values):
    write_safetensors(tmp_path / "model-00001-of-00002.safetensors", values)
    write_safetensors(tmp_path / "model-00002-of-00002.safetensors", {"head.head.bias": values["head.head.bias"]})
    with pytest.raises(ConvertError, match=r"tensor head.head.bias is also in model-00001-of-00002.safetensors"):
        open_source(tmp_path)
