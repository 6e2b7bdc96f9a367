"""The compiled decoders give the reference's bits: every format, dtype and number of threads, on random bytes."""

import pytest
import torch

from wan_gguf.ops.backends.cpu import decode, machine, threads
from wan_gguf.ops.backends.cpu.formats import DECODERS
from wan_gguf.ops.backends.reference import decode as reference
from wan_gguf.ops.dispatch import choose_decode
from wan_gguf.ops.formats import FORMATS
from wan_gguf.ops.packed import PackedWeight

REQUIRED = {
    "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS",
    "F16", "BF16", "F32",
}  # fmt: skip


def random_weight(name: str, n: int, k: int, seed: int = 0) -> PackedWeight:
    """Random bytes: every scale occurs, denormal, infinite and NaN ones too."""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randint(0, 256, (n * FORMATS[name].row_bytes(k),), dtype=torch.uint8, generator=generator)
    return PackedWeight(raw, FORMATS[name], (n, k))


def same_bits(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Equal bit for bit, the sign of zeros included; NaNs may carry other payloads."""
    kind = {4: torch.int32, 2: torch.int16}[found.element_size()]
    return bool(((found.view(kind) == expected.view(kind)) | (found.isnan() & expected.isnan())).all())


def test_these_formats_are_there():
    assert set(DECODERS) >= REQUIRED


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_bits_are_the_reference_s(name, dtype):
    packed = random_weight(name, 131, 768)
    assert same_bits(decode.decode(packed, dtype), reference.decode(packed, dtype))


@pytest.mark.parametrize("on_python_threads", [False, True])
def test_many_threads_do_every_block_once(monkeypatch, on_python_threads):
    if on_python_threads:
        monkeypatch.setattr(threads, "_gomp_parallel", lambda: None)
    packed = random_weight("Q4_K", 1024, 1024)  # more than a dozen chunks
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(5)
        assert same_bits(decode.decode(packed, torch.float32), reference.decode(packed, torch.float32))
    finally:
        torch.set_num_threads(before)


def test_nothing_is_written_past_the_end():
    packed = random_weight("Q6_K", 3, 256)
    padded = torch.full((5, 256), 7.0)
    decode.run(packed, padded[1:4])
    assert (padded[0] == 7).all()
    assert (padded[4] == 7).all()
    assert same_bits(padded[1:4], reference.decode(packed, torch.float32))


def test_an_empty_weight():
    assert decode.decode(random_weight("Q8_0", 0, 256), torch.float32).shape == (0, 256)


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "reason"),
    [
        ("IQ1_S", (4, 256), torch.float32, "has no IQ1_S"),
        ("Q8_0", (4, 256), torch.float64, "decodes to float32, bfloat16, float16 only"),
        ("F16", (3, 5), torch.float32, "takes F16 in whole blocks of 32"),
    ],
)
def test_what_it_cannot_do_goes_to_the_reference(name, shape, dtype, reason):
    block_format = FORMATS[name]
    rows = torch.zeros(shape[0] * shape[1] // block_format.block_elems * block_format.block_bytes, dtype=torch.uint8)
    choice = choose_decode(PackedWeight(rows, block_format, shape), dtype)
    assert choice.kernel is not None
    assert choice.kernel.name == "reference.decode"
    assert ("cpu.decode", reason) in choice.refused


def test_without_llvmlite_the_reason_is_told(monkeypatch):
    monkeypatch.setattr(machine, "problem", lambda: "needs the package llvmlite")
    choice = choose_decode(random_weight("Q8_0", 1, 32), torch.float32)
    assert "cpu.decode needs the package llvmlite" in choice.explain()
    assert choice.kernel is not None
    assert choice.kernel.name == "reference.decode"


def test_a_machine_that_forbids_compiling_is_a_reason_not_a_crash(monkeypatch):
    def forbidden(*arguments):
        raise OSError("no executable memory")

    monkeypatch.setattr(machine.Machine, "compile", forbidden)
    assert machine.problem.__wrapped__() == "cannot compile on this machine (no executable memory)"
