"""Recorded importance: what is read, what is refused, and that it reaches the quantiser."""

import hashlib
import struct

import numpy as np
import pytest

from wan_gguf.convert.errors import ConvertError
from wan_gguf.convert.importance import PLACES, Importance, place, read_importance
from wan_gguf.convert.pieces import packed_pieces
from wan_gguf.convert.planned import Target, plan_target
from wan_gguf.convert.quantize import quantize
from wan_gguf.convert.source import open_source
from wan_gguf.convert.type_costs import matrices, measure
from wan_gguf.tests.convert.build import shapes_source, wan_values, write_safetensors
from wan_gguf.tests.loaders.build import safetensors_bytes
from wan_gguf.tests.loaders.models import wan_model_shapes


def write_importance(path, squares, sensitivities=None):
    """A recorded file as host/calibration.py writes it."""
    numbers = dict(squares)
    numbers |= {f"{name}.sensitivity": [value] for name, value in (sensitivities or {}).items()}
    entries = {
        name: ("F32", (len(values),), struct.pack(f"<{len(values)}f", *values)) for name, values in numbers.items()
    }
    path.write_bytes(safetensors_bytes(entries))
    return path


def test_nothing_recorded_means_that_all_columns_count_the_same():
    importance = Importance()
    assert np.array_equal(importance.columns("a", 3), np.ones(3, np.float32))
    assert importance.sensitivity("a") == 1.0
    assert importance.record() == {"from": "weights and places"}


def test_a_file(tmp_path):
    path = write_importance(tmp_path / "a.safetensors", {"a": [1.0, 2.0, 3.0], "b": [4.0]}, {"a": 0.5, "b": 2.0})
    importance = read_importance([path], ["a", "b"])
    assert importance.columns("a", 3) == pytest.approx([0.5, 1.0, 1.5])
    assert (importance.sensitivity("a"), importance.sensitivity("b")) == (0.5, 2.0)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert importance.record() == {"from": "activations and sensitivities", "files": {"a.safetensors": digest}}


def test_several_files_are_averaged(tmp_path):
    one = write_importance(tmp_path / "1.safetensors", {"a": [1.0, 3.0]}, {"a": 1.0})
    two = write_importance(tmp_path / "2.safetensors", {"a": [3.0, 9.0]}, {"a": 2.0})
    importance = read_importance([one, two], ["a"])
    assert importance.squares["a"] == pytest.approx([2.0, 6.0])
    assert importance.sensitivity("a") == 1.5


def test_without_a_record_a_layer_counts_by_its_place():
    values = [Importance().sensitivity(f"blocks.{i}.{name}.weight") for i in (0, 39) for name in PLACES]
    assert values == 2 * list(PLACES.values()) and min(values) > 0 and max(values) == 1.0
    assert Importance().sensitivity("encoder.block.0.layer.0.SelfAttention.q.weight") == 1.0


def test_every_matrix_of_a_wan_block_has_a_place():
    names = matrices(shapes_source(wan_model_shapes("Wan2.1-I2V-14B"), "F16"))
    assert {place(name) for name in names} == set(PLACES)


def test_without_sensitivities_the_places_count(tmp_path):
    path = write_importance(tmp_path / "a.safetensors", {"a": [1.0], "b": [1.0]})
    importance = read_importance([path], ["a", "b"])
    assert (importance.sensitivity("a"), importance.record()["from"]) == (1.0, "activations and places")


@pytest.mark.parametrize(
    ("squares", "message"),
    [
        ({"b": [1.0]}, "has nothing about a; a file that was recorded with this model is allowed"),
        ({"a": [1.0, float("nan")]}, "tensor a: has numbers that are not finite"),
        ({"a": [1.0, -1.0]}, "or negative"),
        ({"a": [0.0, 0.0]}, "or only zeros; record it again"),
        ({"a": []}, r"tensor a: F32 of shape \(0,\); \(k,\) F32 is allowed"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, squares, message):
    with pytest.raises(ConvertError, match=message):
        read_importance([write_importance(tmp_path / "a.safetensors", squares)], ["a"])


def test_another_width_is_refused(tmp_path):
    importance = read_importance([write_importance(tmp_path / "a.safetensors", {"a": [1.0, 2.0]})], ["a"])
    with pytest.raises(ConvertError, match="has 2 columns, the matrix 3; it was recorded with another model"):
        importance.columns("a", 3)


def test_the_quantiser_gets_it(tmp_path):
    """The bytes of a planned file are those of quantising each matrix with its columns."""
    source = open_source(write_safetensors(tmp_path / "wan.safetensors", wan_values(layers=1), "F16"))
    rng = np.random.default_rng(0)
    squares = {name: rng.uniform(0.1, 9.0, source.tensors[name].row_length) for name in matrices(source)}
    importance = read_importance([write_importance(tmp_path / "i.safetensors", squares)], matrices(source))
    plan, choices = plan_target(source, Target(bits=4.0), measure(source, importance), importance)
    types = {choice.name: choice.cost.type_name for choice in choices}
    differs = 0
    for piece, packed in packed_pieces(source, plan):
        name = piece.tensor.source
        if name in types:
            rows, k = source.tensors[name].rows(piece.start, piece.stop), source.tensors[name].row_length
            assert np.array_equal(packed, quantize(rows, types[name], name, importance.columns(name, k)))
            differs += not np.array_equal(packed, quantize(rows, types[name], name))
    assert differs >= 5
