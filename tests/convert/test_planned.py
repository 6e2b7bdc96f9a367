"""Plans for a size: they keep it, they save what they chose, and the file is what was planned."""

import json
import re
from collections import Counter

import pytest

from wan_gguf.convert.container import ALIGNMENT, padded
from wan_gguf.convert.errors import ConvertError
from wan_gguf.convert.ggml_types import block_size, tensor_bytes
from wan_gguf.convert.importance import Importance
from wan_gguf.convert.plan import plan_gguf
from wan_gguf.convert.planned import (
    PLAN_KEY,
    Choice,
    Target,
    bits_of,
    check_possible,
    groups_of,
    plan_target,
    summary_of,
)
from wan_gguf.convert.run import convert
from wan_gguf.convert.source import open_source
from wan_gguf.convert.type_costs import MatrixCosts, TypeCost, candidates, matrices, measure
from wan_gguf.loaders.gguf import open_gguf
from wan_gguf.loaders.wan import load_wan
from wan_gguf.tests.convert.build import shapes_source, wan_values, write_safetensors
from wan_gguf.tests.loaders.models import umt5_xxl_shapes, wan_model_shapes

WEIGHTS = Importance()


def costs_of(source, seed: int = 0) -> list[MatrixCosts]:
    """As measured on normally distributed weights, a quarter of the energy for each bit, without measuring."""
    found = []
    for i, name in enumerate(matrices(source)):
        tensor, costs = source.tensors[name], []
        for type_name in candidates(tensor):
            elems, nbytes = block_size(type_name)
            error = 0.0 if type_name in ("F16", "BF16") else 4.0 ** -(8 * nbytes / elems)
            size = padded(tensor_bytes(type_name, tensor.shape), ALIGNMENT)
            costs.append(TypeCost(type_name, size, error, error * (1 + i % 7)))
        found.append(MatrixCosts(name, tensor.n_rows * tensor.row_length, tuple(costs)))
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planned")
    return open_source(write_safetensors(folder / "wan.safetensors", wan_values(layers=1), "F16"))


@pytest.fixture(scope="module")
def costs(source):
    return measure(source, WEIGHTS)


@pytest.mark.parametrize("model", ["Wan2.2-T2V-A14B", "Wan2.2-I2V-A14B", "Wan2.2-TI2V-5B"])
def test_real_models_get_a_file_of_the_size_that_was_asked_for(model):
    source = shapes_source(wan_model_shapes(model), "BF16")
    costs = costs_of(source)
    published = plan_gguf(source, "Q4_K_M").nbytes
    dim = source.config["dim"]
    step = dim * dim * 7.5 / 8  # Q8_0 to BF16 for a square matrix, the largest step of the smallest matrix
    for nbytes in (published, int(published * 0.8), int(published * 1.5)):
        plan, _ = plan_target(source, Target(nbytes=nbytes), costs, WEIGHTS)
        assert nbytes - step < plan.nbytes <= nbytes
        assert [tensor.name for tensor in plan.tensors] == [tensor.name for tensor in plan_gguf(source, "Q8_0").tensors]


def test_the_text_encoder_s_matrices_have_groups_too():
    costs = costs_of(shapes_source(umt5_xxl_shapes(), "BF16", kind="umt5"))
    choices = [Choice(matrix.name, matrix.n_weights, matrix.costs[0]) for matrix in costs]
    names = [group.name for group in groups_of(choices)]
    assert names[:5] == ["shared", "SelfAttention.q", "SelfAttention.k", "SelfAttention.v", "SelfAttention.o"]
    assert len(names) == 8


@pytest.mark.parametrize("bits", [2.7, 3.5, 4.5, 4.86, 6.0, 8.5, 12.0])
def test_bits_are_over_the_matrices(source, costs, bits):
    plan, choices = plan_target(source, Target(bits=bits), costs, WEIGHTS)
    names = set(matrices(source))
    nbytes = sum(tensor.nbytes for tensor in plan.tensors if tensor.source in names)
    weights = sum(source.tensors[name].n_rows * source.tensors[name].row_length for name in names)
    assert 8 * nbytes / weights == pytest.approx(bits_of(choices))
    # less is left than the largest step of the smallest matrix: Q8_0 to F16, 7.5 bits of a twelfth of the weights
    assert bits - 7.5 / 12 < bits_of(choices) <= bits


def test_what_the_rule_leaves_unquantised_stays_so(source, costs):
    plan, choices = plan_target(source, Target(bits=3.0), costs, WEIGHTS)
    chosen = {choice.name for choice in choices}
    for ours, theirs in zip(plan.tensors, plan_gguf(source, "Q4_K_M").tensors, strict=True):
        assert ours.source in chosen or ours == theirs


def test_sensitive_matrices_get_more_bits(source):
    names = matrices(source)
    importance = Importance(sensitivities={name: 100.0 if ".ffn.2." in name else 0.01 for name in names})
    _, choices = plan_target(source, Target(bits=4.5), measure(source, importance), importance)
    by_group = {group.name: group.bits for group in groups_of(choices)}
    assert by_group.pop("ffn.2") > 6 > max(by_group.values())


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            Target(nbytes=100_000),
            r"a file of 100000 bytes cannot be made: the smallest has \d+ bytes \(2\.6\d bits per",
        ),
        (Target(nbytes=10**9), r"is more than there is: the largest has \d+ bytes \(16\.00 bits per weight\); ask for"),
        (Target(bits=2.0), r"a file of 2 bits per weight cannot be made: the smallest has"),
        (Target(bits=17.0), r"a file of 17 bits per weight is more than there is"),
    ],
)
def test_impossible_sizes_say_what_is_possible(source, costs, target, message):
    with pytest.raises(ConvertError, match=message):
        plan_target(source, target, costs, WEIGHTS)
    with pytest.raises(ConvertError, match=message):
        check_possible(source, target)


def test_real_sizes_are_checked_from_the_shapes_alone():
    source = shapes_source(wan_model_shapes("Wan2.2-T2V-A14B"), "F16")
    check_possible(source, Target(nbytes=9_600_000_000))
    with pytest.raises(ConvertError, match=r"a file of 4000000000 bytes cannot be made: the smallest has 5\d{9} bytes"):
        check_possible(source, Target(nbytes=4_000_000_000))


def test_the_smallest_and_the_largest_that_are_named_can_be_made(source, costs):
    # what the metadata says of the target is part of the file: its number has some digits more or fewer
    for target, word, slack in ((Target(nbytes=1), "smallest", 32), (Target(nbytes=10**12), "largest", -32)):
        with pytest.raises(ConvertError) as failure:
            plan_target(source, target, costs, WEIGHTS)
        nbytes = int(re.search(rf"{word} has (\d+) bytes", str(failure.value)).group(1))
        plan, _ = plan_target(source, Target(nbytes=nbytes + slack), costs, WEIGHTS)
        assert abs(plan.nbytes - nbytes) <= 32 or word == "largest"


def test_the_file_is_what_was_planned_and_says_so(tmp_path, source, costs):
    target = Target(bits=4.5)
    plan, choices = plan_target(source, target, costs, WEIGHTS)
    convert(source, plan, tmp_path / "out.gguf")
    assert (tmp_path / "out.gguf").stat().st_size == plan.nbytes
    opened = open_gguf(tmp_path / "out.gguf")
    for choice in choices:
        assert opened.tensors[choice.name].format.name == choice.cost.type_name
    saved = json.loads(opened.metadata[PLAN_KEY])
    assert saved == json.loads(json.dumps(summary_of(choices, target, WEIGHTS)))
    assert saved["target"] == "4.5 bits per weight" and saved["importance"] == {"from": "weights and places"}
    counted = Counter()
    for group in saved["groups"].values():
        counted.update(group["types"])
    assert counted == Counter(choice.cost.type_name for choice in choices)
    assert load_wan(tmp_path / "out.gguf").config == source.config


def test_a_plan_is_the_same_every_time(tmp_path, source):
    for name in ("a.gguf", "b.gguf"):
        plan, _ = plan_target(source, Target(bits=4.0), measure(source, WEIGHTS), WEIGHTS)
        convert(source, plan, tmp_path / name)
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


def test_plain_files_have_three_keys(source, costs):
    plan, choices = plan_target(source, Target(bits=4.5), costs, WEIGHTS, plain=True)
    assert list(plan.metadata) == ["general.architecture", "general.quantization_version", "general.file_type"]
    names = Counter()
    for choice in choices:
        names[choice.cost.type_name] += choice.n_weights
    numbers = {"Q3_K": 12, "IQ4_XS": 30, "IQ4_NL": 25, "Q4_K": 15, "Q5_K": 17}  # llama.cpp's LLAMA_FTYPE_MOSTLY_*
    assert plan.metadata["general.file_type"] == numbers[names.most_common(1)[0][0]]
