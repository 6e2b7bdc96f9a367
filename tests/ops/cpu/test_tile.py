"""Which tile is chosen for how many tokens, on CPUs with 16 registers of 8 numbers."""

import pytest

from wan_gguf.ops.backends.cpu import tile
from wan_gguf.ops.backends.cpu.machine import Machine

AVX2 = Machine("x86_64-linux-gnu", "haswell", frozenset({"avx", "avx2", "fma"}))


@pytest.fixture(autouse=True)
def registers_of_eight(monkeypatch):
    monkeypatch.setattr(tile, "machine", lambda: AVX2)


@pytest.mark.parametrize(
    ("tokens", "width"), [(1, 8), (8, 8), (9, 16), (17, 24), (32, 16), (48, 24), (64, 24), (390, 24)]
)
def test_the_width_follows_the_tokens(tokens, width):
    assert tile.choose_tile(tokens).tokens == width
    assert tile.choose_tile(tokens, spare=1).tokens == width


def test_few_products_are_of_tokens_that_nobody_asked_for():
    for tokens in range(9, 500):
        narrow, chosen = -(-tokens // 16) * 16, tile.choose_tile(tokens)
        assert tokens <= chosen.padded(tokens) <= narrow * 9 / 8


@pytest.mark.parametrize("spare", [0, 1])
@pytest.mark.parametrize("tokens", [1, 32, 1000])
def test_it_fits_the_registers(tokens, spare):
    chosen = tile.choose_tile(tokens, spare)
    sums, held = chosen.rows * chosen.vectors, chosen.vectors - chosen.reread
    assert sums + held + 1 + spare <= 16
