"""Sizes as people write them."""

import pytest

from wan_gguf.convert.errors import ConvertError
from wan_gguf.convert.size import parse_size

SIZES = {
    "3GB": 3_000_000_000, "3GiB": 3_221_225_472, "3.2e9": 3_200_000_000, "800 MB": 800_000_000, "1.5g": 1_500_000_000,
    "12345": 12345, "7kib": 7168, "64B": 64,
}  # fmt: skip


@pytest.mark.parametrize("text", SIZES)
def test_sizes(text):
    assert parse_size(text) == SIZES[text]


@pytest.mark.parametrize("text", ["", "GB", "3 XB", "-3GB", "0", "0.2", "1e400", "3GB!", "1..5GB", "nan", "inf"])
def test_what_is_no_size_is_refused_with_examples(text):
    with pytest.raises(ConvertError, match=r"a number with a unit is allowed, as in 3GB \(10\^9\), 3GiB \(2\^30\)"):
        parse_size(text)
