"""The dialects' rules against the lengths, in bytes, of files that their makers published.

One wrong type or shape in the rule moves the length by kilobytes, one lost dimension in every block by hundreds of
bytes; only what fits in the 32 bytes of padding, and the order of the tensors, goes unseen.
"""

from collections import Counter

import pytest

from wan_gguf.tests.loaders.build import tensor_bytes
from wan_gguf.tests.loaders.dialects import city96, sd_cpp
from wan_gguf.tests.loaders.dialects_umt5 import llama_cpp
from wan_gguf.tests.loaders.models import umt5_xxl_shapes, wan_model_shapes

T2V, I2V, TI2V, WAN21 = "Wan2.2-T2V-A14B", "Wan2.2-I2V-A14B", "Wan2.2-TI2V-5B", "Wan2.1-T2V-14B"
PUBLISHED = [  # maker, model, file type, dtype of the checkpoint, bytes
    ("QuantStack, both experts", T2V, "Q4_K_M", "F16", 9_650_090_496),
    ("QuantStack, high noise", T2V, "Q5_K_M", "F16", 10_790_416_896),
    ("QuantStack, both experts", I2V, "Q4_K_M", "F16", 9_651_728_896),
    ("QuantStack and unsloth", TI2V, "Q4_K_M", "F16", 3_433_116_000),
    ("QuantStack", TI2V, "Q5_K_M", "F16", 3_810_603_360),
    ("QuantStack", TI2V, "Q6_K", "F16", 4_211_683_680),
    ("QuantStack", TI2V, "Q8_0", "F16", 5_400_179_040),
    ("hum-ma, Turbo", TI2V, "Q5_K_M", "F32", 3_815_414_496),
    ("hum-ma, Turbo", TI2V, "Q8_0", "F32", 5_404_990_176),
    ("jayn7, lightx2v", I2V, "Q4_K_M", "BF16", 9_661_569_664),
    ("city96", WAN21, "Q4_K_M", "F32 kept", 10_124_581_504),
]


@pytest.mark.parametrize(("maker", "model", "file_type", "source", "nbytes"), PUBLISHED)
def test_city96_files(maker, model, file_type, source, nbytes):
    assert city96(wan_model_shapes(model), file_type, source).nbytes() == nbytes, maker


@pytest.mark.parametrize(("type_name", "nbytes"), [("Q8_0", 5_412_844_128), ("Q6_K", 4_210_247_200)])
def test_stable_diffusion_cpp_files(type_name, nbytes):
    """Green-Sky's FastWan2.2-TI2V-5B."""
    file = sd_cpp(wan_model_shapes(TI2V), type_name)
    assert file.nbytes() == nbytes
    assert Counter(stored.type_name for stored in file.tensors.values()) == {type_name: 483, "F32": 342}


# The other file types, computed a second time from the classes of the official repository; bytes of an F16 checkpoint.
COMPUTED = {  # file type: T2V-A14B, TI2V-5B
    "Q2_K": (5_299_319_296, 1_853_862_240),
    "Q3_K_S": (6_513_373_696, 2_294_755_680),
    "Q3_K_M": (7_174_468_096, 2_547_790_176),
    "Q3_K_L": (7_783_952_896, 2_781_360_480),
    "Q4_0": (8_556_458_496, 3_029_086_560),
    "Q4_1": (9_257_693_696, 3_253_219_680),
    "Q4_K_S": (8_746_512_896, 3_116_380_512),
    "Q5_0": (10_312_823_296, 3_642_503_520),
    "Q5_1": (11_014_058_496, 3_866_636_640),
    "Q5_K_S": (10_135_876_096, 3_559_928_160),
    "Q6_K": (12_002_013_696, 4_211_683_680),
    "Q8_0": (15_404_970_496, 5_400_179_040),
}
ROUNDED = {"Q2_K": 5.3, "Q3_K_S": 6.51, "Q4_K_S": 8.75, "Q6_K": 12.0, "Q8_0": 15.4}  # GB per expert, QuantStack's list


@pytest.mark.parametrize("file_type", COMPUTED)
def test_the_other_file_types(file_type):
    assert tuple(city96(wan_model_shapes(model), file_type).nbytes() for model in (T2V, TI2V)) == COMPUTED[file_type]
    if file_type in ROUNDED:
        assert float(f"{COMPUTED[file_type][0] / 1e9:.3g}") == ROUNDED[file_type]


def test_an_i2v_expert_is_larger_by_its_patch_embedding():
    """20 more input channels, 4 pixels, 5120 outputs, F32."""
    lengths = [city96(wan_model_shapes(model), "Q3_K_M").nbytes() for model in (T2V, I2V)]
    assert lengths[1] - lengths[0] == 20 * 4 * 5120 * 4


HISTOGRAMS = {  # from the headers of the files
    ("QuantStack", "F16"): {"F32": 1, "F16": 524, "Q5_K": 210, "Q6_K": 90},
    ("hum-ma, Turbo", "F32"): {"F32": 519, "F16": 6, "Q5_K": 210, "Q6_K": 90},
}


@pytest.mark.parametrize(("maker", "source"), HISTOGRAMS)
def test_types_in_the_headers_of_ti2v_5b(maker, source):
    file = city96(wan_model_shapes(TI2V), "Q5_K_M", source)
    assert Counter(stored.type_name for stored in file.tensors.values()) == HISTOGRAMS[maker, source]


UMT5_PUBLISHED = {  # city96's umt5-xxl-encoder
    "Q4_K_M": 3_655_145_312, "Q5_K_M": 4_145_878_880, "Q6_K": 4_667_283_296, "Q8_0": 6_043_068_256,
}  # fmt: skip


@pytest.mark.parametrize("file_type", UMT5_PUBLISHED)
def test_umt5_files(file_type):
    """Before the data stand the tokenizer of 256384 tokens and the table: the same 6367072 bytes in all four."""
    types = llama_cpp(umt5_xxl_shapes(), file_type).types().values()
    data_bytes = sum(tensor_bytes(*tensor) for tensor in types)
    assert all(tensor_bytes(*tensor) % 32 == 0 for tensor in types)
    assert UMT5_PUBLISHED[file_type] - data_bytes == 6_367_072


def test_types_in_able2_s_umt5_file():
    file = llama_cpp(umt5_xxl_shapes(), "Q4_K_M", relative_bias="F16")
    histogram = {"Q4_K": 144, "F16": 24, "Q6_K": 25, "F32": 49}
    assert Counter(stored.type_name for stored in file.tensors.values()) == histogram
