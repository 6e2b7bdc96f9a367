"""Whether every kernel of the Triton backend is right on this GPU, against the pure torch reference on the CPU.

A check is a function that returns None, or in words what is wrong; `all_checks` names them. They run in a few seconds
after compilation. The weights are random blocks; gguf is not needed.
"""

import functools
from collections.abc import Callable, Iterator

import torch

from wan_gguf.ops.backends.reference import int8_linear as reference_int8
from wan_gguf.ops.backends.reference.decode import decode as reference_decode
from wan_gguf.ops.backends.triton import decode, int8_linear, linear, row_peaks, small_m
from wan_gguf.ops.backends.triton.activations import quantize
from wan_gguf.ops.backends.triton.decode_int8 import decode_columns, decode_int8
from wan_gguf.ops.backends.triton.formats import FUNCTIONS
from wan_gguf.ops.formats import FORMATS
from wan_gguf.ops.int8 import OUTLIERS, QMAX, quantize_activations, scale_of
from wan_gguf.ops.packed import PackedWeight
from wan_gguf.ops.row_scales import row_scales

BITS = {4: torch.int32, 2: torch.int16}
# First bytes of the fp16 scales in a block, as in the layouts of ops/formats.
SCALES = {
    "Q4_1": (0, 2),
    "Q5_1": (0, 2),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q6_K": (208,),
}
Check = Callable[[], str | None]


def random_weight(name: str, n: int, k: int, finite: bool = True) -> PackedWeight:
    """Random bytes on the CPU; with `finite` the scales are of the order of 2^-6, else anything."""
    block_format = FORMATS[name]
    generator = torch.Generator().manual_seed(n + k)
    data = torch.randint(0, 256, (n * block_format.row_bytes(k),), dtype=torch.uint8, generator=generator)
    blocks = data.view(-1, block_format.block_bytes)
    for at in SCALES.get(name, (0,)) if finite else ():
        scale = torch.randn(blocks.shape[0], generator=generator).div(64).half()
        blocks[:, at : at + 2] = scale.view(torch.uint8).view(-1, 2)
    return PackedWeight(data, block_format, (n, k))


def same_bits(found: torch.Tensor, expected: torch.Tensor) -> str | None:
    """Equal bits; of a NaN only that it is one."""
    found = found.cpu()
    bits = BITS[found.element_size()]
    same = (found.view(bits) == expected.view(bits)) | (found.isnan() & expected.isnan())
    wrong = int((~same).sum())
    return f"{wrong} of {same.numel()} numbers differ" if wrong else None


def near(found: torch.Tensor, expected: torch.Tensor, absolute: torch.Tensor, terms: int) -> str | None:
    """Sums of products in float32 in any order, then one rounding to found.dtype: the standard bound of the difference.

    `absolute` is the sum of the absolute terms, in float64 on the CPU as `expected`.
    """
    bound = torch.finfo(found.dtype).eps * expected.abs() + terms * 2.0**-24 * absolute
    over = ((found.double().cpu() - expected).abs() / bound.clamp(min=1e-300)).max().item()
    return None if over <= 1 else f"the largest difference is {over:.2g} times what rounding explains"


def check_decode(device: torch.device, name: str, dtype: torch.dtype, n: int, k: int) -> str | None:
    packed = random_weight(name, n, k, finite=False)
    return same_bits(decode.decode(packed.to(device), dtype), reference_decode(packed, dtype))


def check_unaligned(device: torch.device, name: str) -> str | None:
    """Data at an address that is only a multiple of two."""
    packed = random_weight(name, 5, 512, finite=False)
    moved = torch.cat((packed.data[:2], packed.data)).to(device)[2:]
    found = decode.decode(PackedWeight(moved, packed.format, packed.shape), torch.float32)
    return same_bits(found, reference_decode(packed, torch.float32))


def check_huge(device: torch.device) -> str | None:
    """More than 2^31 elements: the last rows of a weight whose other rows are left as they are."""
    tail = random_weight("Q4_0", 4, 4096)
    rows = (1 << 31) // 4096 + 5
    data = torch.zeros(rows * tail.format.row_bytes(4096), dtype=torch.uint8, device=device)
    data[-tail.nbytes :] = tail.data.to(device)
    found = decode.decode(PackedWeight(data, tail.format, (rows, 4096)), torch.bfloat16)
    return same_bits(found[-4:], reference_decode(tail, torch.bfloat16))


def tokens(m: int, k: int, dtype: torch.dtype) -> torch.Tensor:
    """Gaussian, with eight channels 20 times as large."""
    generator = torch.Generator().manual_seed(m)
    x = torch.randn(m, k, generator=generator)
    x[:, torch.randperm(k, generator=generator)[:8]] *= 20
    return x.to(dtype)


def check_linear(device: torch.device, name: str, dtype: torch.dtype, m: int, n: int, k: int) -> str | None:
    """triton.small_m up to 16 tokens, triton.linear above."""
    packed, x, bias = random_weight(name, n, k), tokens(m, k, dtype), torch.linspace(-3, 3, n).to(dtype)
    kernel = small_m if m <= small_m.MAX_TOKENS else linear
    found = kernel.run(x.to(device), packed.to(device), bias.to(device))
    weight, wide = reference_decode(packed, dtype).double(), x.double()
    absolute = wide.abs() @ weight.abs().T + bias.double().abs()
    return near(found, wide @ weight.T + bias.double(), absolute, k + 2)


def check_int8_weight(device: torch.device, name: str, n: int, k: int) -> str | None:
    packed = random_weight(name, n, k)
    scale, weight = row_scales(packed), reference_decode(packed, torch.float32)
    if not torch.equal(scale_of(row_peaks.run(packed.to(device))).cpu(), scale):
        return "row scales differ"
    columns = torch.randperm(k, generator=torch.Generator().manual_seed(0))[:OUTLIERS]
    q = decode_int8(packed.to(device), scale.to(device))
    expected = (weight * scale.reciprocal()[:, None]).round().clamp(-QMAX, QMAX).to(torch.int8)
    if not torch.equal(q.cpu(), expected):
        return f"{int((q.cpu() != expected).sum())} of {q.numel()} integers differ"
    kept = decode_columns(packed.to(device), columns.to(device))
    return None if torch.equal(kept.cpu(), weight[:, columns].T) else "outlier columns differ"


def check_activations(device: torch.device, dtype: torch.dtype, m: int, k: int) -> str | None:
    x = tokens(m, k, dtype)
    found, expected = quantize(x.to(device)), quantize_activations(x)
    columns = found.columns.cpu()
    if not torch.equal(columns.sort().values, expected.columns):
        return "other columns are kept apart"
    same = torch.equal(found.q.cpu(), expected.q) and torch.equal(found.scale.cpu(), expected.scale[:, 0])
    kept = torch.equal(found.kept.cpu(), x[:, columns].float())
    return None if same and kept else "integers, scales or outliers differ"


def check_int8_linear(device: torch.device, name: str, dtype: torch.dtype, m: int, n: int, k: int) -> str | None:
    packed, x, bias = random_weight(name, n, k), tokens(m, k, dtype), torch.linspace(-3, 3, n).to(dtype)
    found = int8_linear.run(x.to(device), packed.to(device), bias.to(device))
    expected = reference_int8.run(x.float(), packed, bias)
    absolute = x.double().abs() @ reference_decode(packed, torch.float32).double().abs().T * 1.02
    return near(found, expected.double(), absolute + bias.double().abs(), k + 18)


def all_checks(device: torch.device, quick: bool) -> Iterator[tuple[str, Check]]:
    """(name, check) of everything that runs; `quick` leaves out the huge weight and the odd sizes."""
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    n, k, m = (9, 512, 19) if quick else (259, 1280, 131)
    for name in FUNCTIONS:
        for dtype in dtypes:
            yield f"decode {name} {dtype}", functools.partial(check_decode, device, name, dtype, n, k)
        yield f"unaligned {name}", functools.partial(check_unaligned, device, name)
        yield f"int8 weight {name}", functools.partial(check_int8_weight, device, name, n, k)
        yield f"few tokens {name}", functools.partial(check_linear, device, name, torch.bfloat16, 3, n, k)
    for dtype in dtypes:
        yield f"int8 activations {dtype}", functools.partial(check_activations, device, dtype, m, k)
        yield f"linear {dtype}", functools.partial(check_linear, device, "Q4_K", dtype, m, n, k)
        yield f"int8 linear {dtype}", functools.partial(check_int8_linear, device, "Q4_K", dtype, m, n // 8 * 8, k)
        for few in (1, 2, 5, 16):
            yield f"{few} tokens {dtype}", functools.partial(check_linear, device, "Q8_0", dtype, few, n, k)
    if not quick:
        yield "more than 2^31 elements", functools.partial(check_huge, device)


def run_checks(device: torch.device, quick: bool, say: Callable[[str], None]) -> list[str]:
    """Run all; the sentences about what is wrong, each also said at once."""
    faults, count = [], 0
    for name, check in all_checks(device, quick):
        count += 1
        try:
            fault = check()
        except torch.OutOfMemoryError:
            say(f"not checked, too little memory: {name}")
            continue
        except Exception as error:  # one kernel that does not run must not hide what the others do
            fault = f"{type(error).__name__}: {error}"
        if fault:
            faults.append(f"{name}: {fault}")
            say(f"WRONG {faults[-1]}")
    say(f"{count - len(faults)} of {count} checks passed")
    return faults
