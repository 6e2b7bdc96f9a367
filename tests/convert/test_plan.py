"""What will be written, from shapes alone, against the lengths in bytes of published files."""

from dataclasses import replace

import pytest

from wan_gguf.convert.container import PlannedTensor
from wan_gguf.convert.errors import ConvertError
from wan_gguf.convert.ggml_types import FILE_TYPES, PLAIN
from wan_gguf.convert.plan import Plan, plan_gguf, plan_safetensors
from wan_gguf.convert.recipe import Spec, umt5_types, wan_types
from wan_gguf.tests.convert.build import shapes_source
from wan_gguf.tests.loaders.dialects import city96
from wan_gguf.tests.loaders.dialects_umt5 import llama_cpp, llama_name
from wan_gguf.tests.loaders.models import umt5_xxl_shapes, wan_model_shapes

T2V, I2V, TI2V, WAN21 = "Wan2.2-T2V-A14B", "Wan2.2-I2V-A14B", "Wan2.2-TI2V-5B", "Wan2.1-T2V-14B"
PUBLISHED = {  # file type: T2V-A14B, TI2V-5B, from an F16 checkpoint
    "Q2_K": (5_299_319_296, 1_853_862_240),
    "Q3_K_S": (6_513_373_696, 2_294_755_680),
    "Q3_K_M": (7_174_468_096, 2_547_790_176),
    "Q3_K_L": (7_783_952_896, 2_781_360_480),
    "Q4_0": (8_556_458_496, 3_029_086_560),
    "Q4_1": (9_257_693_696, 3_253_219_680),
    "Q4_K_S": (8_746_512_896, 3_116_380_512),
    "Q4_K_M": (9_650_090_496, 3_433_116_000),
    "Q5_0": (10_312_823_296, 3_642_503_520),
    "Q5_1": (11_014_058_496, 3_866_636_640),
    "Q5_K_S": (10_135_876_096, 3_559_928_160),
    "Q5_K_M": (10_790_416_896, 3_810_603_360),
    "Q6_K": (12_002_013_696, 4_211_683_680),
    "Q8_0": (15_404_970_496, 5_400_179_040),
}
OTHER_CHECKPOINTS = [  # maker, model, file type, dtype, whether a GGUF was quantised, bytes
    ("hum-ma, Turbo", TI2V, "Q5_K_M", "F32", False, 3_815_414_496),
    ("hum-ma, Turbo", TI2V, "Q8_0", "F32", False, 5_404_990_176),
    ("jayn7, lightx2v", I2V, "Q4_K_M", "BF16", False, 9_661_569_664),
    ("city96", WAN21, "Q4_K_M", "F32", True, 10_124_581_504),
]


def plain_bytes(model: str, file_type: str, dtype: str = "F16", is_gguf: bool = False) -> int:
    return plan_gguf(shapes_source(wan_model_shapes(model), dtype, is_gguf), file_type, plain=True).nbytes


@pytest.mark.parametrize("file_type", PUBLISHED)
def test_lengths_from_an_f16_checkpoint(file_type):
    t2v, ti2v = PUBLISHED[file_type]
    assert plain_bytes(T2V, file_type) == t2v
    assert plain_bytes(I2V, file_type) == t2v + 1_638_400  # 20 more channels, 4 pixels, 5120 outputs, F32
    assert plain_bytes(TI2V, file_type) == ti2v


@pytest.mark.parametrize(("maker", "model", "file_type", "dtype", "is_gguf", "nbytes"), OTHER_CHECKPOINTS)
def test_lengths_from_other_checkpoints(maker, model, file_type, dtype, is_gguf, nbytes):
    assert plain_bytes(model, file_type, dtype, is_gguf) == nbytes, maker


@pytest.mark.parametrize("file_type", PUBLISHED)
@pytest.mark.parametrize(
    ("dtype", "is_gguf", "source"),
    [("F16", False, "F16"), ("BF16", False, "BF16"), ("F32", False, "F32"), ("F32", True, "F32 kept")],
)
def test_every_tensor_has_the_type_of_the_published_rule(file_type, dtype, is_gguf, source):
    shapes = wan_model_shapes("Wan2.1-I2V-14B")  # with an image branch: every kind of tensor there is
    plan = plan_gguf(shapes_source(shapes, dtype, is_gguf), file_type, plain=True)
    expected = {
        name: (stored.type_name, stored.shape) for name, stored in city96(shapes, file_type, source).tensors.items()
    }
    assert {tensor.name: (tensor.type_name, tensor.shape) for tensor in plan.tensors} == expected


@pytest.mark.parametrize("file_type", [*PUBLISHED, "F16", "BF16"])
def test_umt5_types_are_llama_cpps(file_type):
    shapes = umt5_xxl_shapes()
    types = umt5_types({name: Spec(shape, "F16") for name, shape in shapes.items()}, file_type)
    expected = {name: stored.type_name for name, stored in llama_cpp(shapes, file_type).tensors.items()}
    assert {llama_name(name): found for name, found in types.items()} == expected


UMT5_PUBLISHED = {  # city96's umt5-xxl-encoder; 6367072 bytes stand before the data in all four
    "Q4_K_M": 3_655_145_312, "Q5_K_M": 4_145_878_880, "Q6_K": 4_667_283_296, "Q8_0": 6_043_068_256,
}  # fmt: skip


@pytest.mark.parametrize("file_type", UMT5_PUBLISHED)
def test_umt5_data_has_the_published_length(file_type):
    shapes = umt5_xxl_shapes()
    types = umt5_types({name: Spec(shape, "BF16") for name, shape in shapes.items()}, file_type)
    nbytes = sum(PlannedTensor(name, name, types[name], shape).nbytes for name, shape in shapes.items())
    assert UMT5_PUBLISHED[file_type] - nbytes == 6_367_072


def test_the_patch_embedding_stays_five_dimensional():
    for file_type in FILE_TYPES:
        plan = plan_gguf(shapes_source(wan_model_shapes(TI2V), "BF16"), file_type)
        (patch,) = [tensor for tensor in plan.tensors if tensor.name == "patch_embedding.weight"]
        assert (patch.type_name, patch.shape) == ("F32", (3072, 48, 1, 2, 2))


def test_rows_that_are_no_whole_number_of_blocks_become_f16():
    specs = {
        "blocks.0.self_attn.q.weight": Spec((64, 320), "F16"),
        "blocks.0.self_attn.v.weight": Spec((64, 512), "F16"),
        "blocks.0.ffn.0.weight": Spec((64, 100), "F16"),
    }
    assert list(wan_types(specs, "Q4_K_M").values()) == ["F16", "Q6_K", "F16"]
    assert list(wan_types(specs, "Q8_0").values()) == ["Q8_0", "Q8_0", "F16"]
    assert list(wan_types(specs, "IQ4_XS").values()) == ["F16", "IQ4_XS", "F16"]


def test_8_bit_floats_count_as_f16():
    """convert.py turns them into F16 before it looks at dtypes."""
    specs = {"blocks.0.norm3.bias": Spec((64,), "F8_E4M3"), "head.head.weight": Spec((64, 256), "F8_E5M2")}
    assert list(wan_types(specs, "Q4_0").values()) == ["F16", "F16"]


def test_a_gguf_s_unquantised_tensors_stay_and_quantised_ones_are_decoded():
    """As llama-quantize treats the first kind; stable-diffusion.cpp's files have norms of the second."""
    specs = {
        "blocks.0.norm3.bias": Spec((64,), "Q8_0"),
        "head.head.weight": Spec((64, 256), "Q8_0"),
        "time_embedding.0.weight": Spec((64, 256), "F32"),
    }
    assert list(wan_types(specs, "Q4_0", from_gguf=True).values()) == ["F32", "F16", "F32"]


def test_plain_metadata_is_three_keys_and_the_default_adds_to_them():
    source = replace(shapes_source(wan_model_shapes(TI2V), "F16"), expert="low", metadata={"license": "apache-2.0"})
    plain = plan_gguf(source, "Q4_K_M", plain=True).metadata
    assert plain == {
        "general.architecture": "wan", "general.quantization_version": 2, "general.file_type": 15,
    }  # fmt: skip
    full = plan_gguf(source, "Q4_K_M").metadata
    assert plain.items() <= full.items()
    assert (full["general.license"], full["wan_gguf.expert"]) == ("apache-2.0", "low")
    assert full["wan_gguf.source.files"] == ["model.safetensors"]
    assert plan_gguf(source, "Q4_K_M", license_name="MIT").metadata["general.license"] == "MIT"


FILE_TYPE_IDS = {
    "F32": 0,
    "F16": 1,
    "Q4_0": 2,
    "Q8_0": 7,
    "Q3_K_M": 12,
    "Q6_K": 18,
    "IQ4_NL": 25,
    "IQ4_XS": 30,
    "BF16": 32,
}


@pytest.mark.parametrize("file_type", FILE_TYPE_IDS)
def test_the_file_type_s_number_is_llama_cpps(file_type):
    plan = plan_gguf(shapes_source(wan_model_shapes(TI2V), "F16"), file_type.lower())
    assert plan.metadata["general.file_type"] == FILE_TYPE_IDS[file_type]


@pytest.mark.parametrize("dtype", ["Q4_K", "IQ4_XS", "Q5_0"])
def test_coarse_weights_are_not_quantised_again(dtype):
    source = shapes_source(wan_model_shapes(TI2V), dtype, is_gguf=True)
    with pytest.raises(ConvertError, match=rf"is {dtype}; what is made from it would have the errors of both types"):
        plan_gguf(source, "Q3_K_M")
    for plain in PLAIN:
        assert {tensor.type_name for tensor in plan_safetensors(source, plain).tensors} == {plain}


@pytest.mark.parametrize("file_type", ["Q4", "", "Q4_K", "Q8_K", "IQ2_XS"])
def test_an_unknown_type_is_refused_with_the_list(file_type):
    with pytest.raises(ConvertError, match=r"is unknown; there are: Q2_K, .*, F32"):
        plan_gguf(shapes_source(wan_model_shapes(TI2V), "F16"), file_type)


def test_safetensors_have_no_block_types():
    with pytest.raises(ConvertError, match="type Q8_0 is none for safetensors; there are: F32, F16, BF16"):
        plan_safetensors(shapes_source(wan_model_shapes(TI2V), "F16"), "Q8_0")


def test_changing_a_tensor_s_type_changes_the_length():
    plan = plan_gguf(shapes_source(wan_model_shapes(TI2V), "F16"), "Q4_K_M", plain=True)
    finer = [
        replace(tensor, type_name="Q8_0") if tensor.name == "blocks.0.ffn.0.weight" else tensor
        for tensor in plan.tensors
    ]
    changed: Plan = replace(plan, tensors=tuple(finer))
    assert changed.nbytes - plan.nbytes == 14336 * 3072 // 256 * (8 * 34 - 144)
