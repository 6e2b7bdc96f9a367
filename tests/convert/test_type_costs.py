"""Errors of types, measured: against the whole tensor, against gguf-py's decoding, and what may be chosen at all."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants

from wan_gguf.convert.errors import ConvertError
from wan_gguf.convert.importance import Importance
from wan_gguf.convert.quantize import dequantize, quantize
from wan_gguf.convert.source import open_source
from wan_gguf.convert.type_costs import (
    ROWS,
    TYPES,
    TYPES_OF_SHORT_ROWS,
    candidates,
    matrices,
    measure,
    relative_error,
    sampled_rows,
)
from wan_gguf.tests.convert.build import shapes_source, wan_values, write_safetensors
from wan_gguf.tests.loaders.models import shapes_of, umt5_tensors, wan_tensors


def normal_rows(n: int = 64, k: int = 512, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, k), np.float32)


@pytest.mark.parametrize("type_name", dict.fromkeys([*TYPES, *TYPES_OF_SHORT_ROWS, "F16", "BF16"]))
def test_decoding_is_gguf_pys(type_name):
    rows = normal_rows()
    packed = quantize(rows, type_name, "a")
    theirs = quants.dequantize(packed, GGMLQuantizationType[type_name]).reshape(rows.shape)
    assert np.array_equal(dequantize(packed, type_name, rows.shape[1]), theirs)


@pytest.mark.parametrize("type_name", [*TYPES, "F16"])
def test_the_error_is_the_share_of_the_weights_energy(type_name):
    """Without importance: sum of squared differences over the sum of squares."""
    rows = normal_rows()
    ones = np.ones(rows.shape[1], np.float32)
    decoded = dequantize(quantize(rows, type_name, "a", ones), type_name, rows.shape[1]).astype(np.float64)
    expected = np.square(decoded - rows).sum() / np.square(rows.astype(np.float64)).sum()
    assert relative_error(rows, type_name, "a", ones) == pytest.approx(expected, rel=1e-5)


def test_finer_types_have_smaller_errors():
    errors = [
        relative_error(normal_rows(), name, "a", None) for name in ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0")
    ]
    # each bit more halves the steps, so a quarter of the energy; between Q2_K's and Q8_0's 6 bits 4^6 = 4096
    assert all(coarse > 2.5 * fine for coarse, fine in pairwise(errors))
    assert errors[-1] < 1e-4 < 0.05 < errors[0] < 0.2


def test_columns_that_count_get_the_smaller_error():
    """The energy at the output falls when the quantiser knows which inputs are large."""
    rows = normal_rows()
    columns = np.where(np.arange(512) % 8 == 0, 100.0, 1.0).astype(np.float32)
    blind = dequantize(quantize(rows, "Q3_K", "a"), "Q3_K", 512) - rows
    blind_error = float(
        (np.square(blind).sum(0) * columns).sum() / (np.square(rows).mean() * len(rows) * columns.sum())
    )
    assert relative_error(rows, "Q3_K", "a", columns) < 0.8 * blind_error


def test_the_scale_of_importance_does_not_count():
    rows = normal_rows()
    columns = np.random.default_rng(1).uniform(0.5, 2.0, 512).astype(np.float32)
    small, large = (relative_error(rows, "Q4_K", "a", columns * factor) for factor in (2.0**-6, 2.0**6))
    assert small == pytest.approx(large, rel=1e-6)


def test_rows_are_spread_over_the_whole_matrix():
    class Counting:
        """Row i holds i."""

        n_rows, row_length = 10_000, 4

        def rows(self, start: int, stop: int) -> np.ndarray:
            assert stop <= self.n_rows
            return np.repeat(np.arange(start, stop, dtype=np.float32)[:, None], 4, axis=1)

    found = sampled_rows(Counting())[:, 0]
    assert len(found) == ROWS == len(set(found))
    assert (found[0], found[-1]) == (0, 9999)
    assert np.diff(found).max() < 400


def test_rows_stand_for_the_matrix(tmp_path):
    """256 of 2048 rows of one distribution: the mean of 131072 squares, each with a deviation of about its own size."""
    source = open_source(write_safetensors(tmp_path / "a.safetensors", wan_values(ffn=2048), "F32"))
    tensor = source.tensors["blocks.0.ffn.0.weight"]
    whole = relative_error(tensor.rows(0, 2048), "Q4_K", "a", None)
    assert relative_error(sampled_rows(tensor), "Q4_K", "a", None) == pytest.approx(whole, rel=0.03)


def test_what_may_be_chosen():
    source = shapes_source(shapes_of(wan_tensors(dim=128, ffn=512)), "BF16")
    assert candidates(source.tensors["blocks.0.ffn.2.weight"]) == [*TYPES, "BF16"]
    assert candidates(source.tensors["blocks.0.ffn.0.weight"]) == [*TYPES_OF_SHORT_ROWS, "BF16"]
    stored = replace(source.tensors["blocks.0.ffn.2.weight"], dtype="Q8_0")
    assert candidates(stored) == list(TYPES)  # nothing is gained by more bits than the source has


def test_the_matrices_are_those_of_the_published_rule():
    names = matrices(shapes_source(shapes_of(wan_tensors()), "F16"))
    assert len(names) == 20
    assert all(name.startswith("blocks.") and name.endswith(".weight") for name in names)
    encoder = matrices(shapes_source(shapes_of(umt5_tensors(llama_names=False)), "F16", kind="umt5"))
    assert len(encoder) == 15 and "shared.weight" in encoder


def test_measuring_goes_through_all_matrices_and_can_be_stopped(tmp_path):
    source = open_source(write_safetensors(tmp_path / "a.safetensors", wan_values(layers=1), "F16"))
    seen = []
    costs = measure(source, Importance(), lambda done, total, name: seen.append((done, total, name)))
    assert [matrix.name for matrix in costs] == matrices(source)
    assert [done for done, _, _ in seen] == list(range(11)) and seen[0][1:] == (10, costs[0].name)
    for matrix in costs:
        assert [cost.type_name for cost in matrix.costs] == [*TYPES, "F16"]
        assert matrix.costs[-1].error == 0.0  # the source's own type

    def stop(done: int, total: int, name: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(source, Importance(), stop)


def test_harm_is_the_error_times_the_sensitivity(tmp_path):
    source = open_source(write_safetensors(tmp_path / "a.safetensors", wan_values(layers=1), "F16"))
    names = matrices(source)
    importance = Importance(sensitivities={name: float(i + 1) for i, name in enumerate(names)})
    for i, matrix in enumerate(measure(source, importance)):
        assert all(cost.harm == pytest.approx((i + 1) * cost.error) for cost in matrix.costs)


def test_weights_that_are_not_finite_are_refused_while_measuring(tmp_path):
    values = wan_values(layers=1)
    values["blocks.0.ffn.2.weight"][3, 5] = float("nan")
    source = open_source(write_safetensors(tmp_path / "a.safetensors", values, "F32"))
    with pytest.raises(ConvertError, match=r"tensor blocks\.0\.ffn\.2\.weight: 1 of .* not finite"):
        measure(source, Importance())
