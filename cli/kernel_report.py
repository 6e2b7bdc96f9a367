"""Which kernel runs for every format, device and kind of call, and why those of higher priority do not.

The dispatcher is asked with tensors of the right shapes whose memory is never written or read; no kernel runs.
"""

import itertools
import json
import re
import textwrap
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch

from ..ops.block_format import BlockFormat
from ..ops.dispatch import MODES, Choice, choose_decode, choose_linear
from ..ops.explain import TYPICAL_TOKENS, typical_operands, typical_weight
from ..ops.formats import FORMATS
from ..ops.kernel import DecodeKernel, LinearKernel
from ..ops.packed import PackedWeight

SIZE = 3072  # rows and columns: the width of TI2V-5B
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
TOKENS = (1, TYPICAL_TOKENS)
WIDTH = 110  # characters in a line
Refusals = tuple[tuple[str, str], ...]  # (kernel, reason)
_PLACE = "\0"  # stands for the format's name while reasons are compared


@dataclass(frozen=True)
class Call:
    """A kind of call: decoding to `dtype` (mode and tokens None), or a linear layer on x (tokens, SIZE) of `dtype`."""

    operation: str
    mode: str | None
    dtype: str
    tokens: int | None


CALLS = (
    *(Call("decode", None, dtype, None) for dtype in DTYPES),
    *(Call("linear", *rest) for rest in itertools.product(MODES, DTYPES, TOKENS)),
)


@dataclass(frozen=True)
class Answer:
    """The kernel for a call on weights of a format, None if there is none; (kernel, reason) of those that refused."""

    call: Call
    format: str
    kernel: str | None
    refused: Refusals


def devices() -> list[torch.device]:
    """The CPU, and every GPU this torch finds."""
    found = [torch.device("cpu")]
    if torch.cuda.is_available():
        found += [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    mps = getattr(torch.backends, "mps", None)
    if mps is not None and mps.is_available():
        found.append(torch.device("mps"))
    return found


def ask(device: torch.device, formats: Iterable[BlockFormat] = FORMATS.values()) -> list[Answer]:
    """The dispatcher's answers for every format and call."""
    answers = []
    for found in formats:
        packed = typical_weight(found, device, SIZE)
        for call in CALLS:
            choice = _choose(call, packed)
            answers.append(Answer(call, found.name, choice.kernel.name if choice.kernel else None, choice.refused))
    return answers


def _choose(call: Call, packed: PackedWeight) -> Choice[LinearKernel] | Choice[DecodeKernel]:
    dtype = DTYPES[call.dtype]
    if call.tokens is None or call.mode is None:
        return choose_decode(packed, dtype)
    return choose_linear(*typical_operands(packed, dtype, call.tokens), call.mode)


def as_text(answers: list[Answer]) -> str:
    """A table: calls with the same answers under one heading, formats with the same answer in one line."""
    together: dict[tuple, list[Call]] = {}
    for call in dict.fromkeys(answer.call for answer in answers):
        same = tuple((answer.format, answer.kernel, answer.refused) for answer in answers if answer.call == call)
        together.setdefault((call.operation, call.mode, same), []).append(call)
    blocks = []
    for (_, _, same), calls in together.items():
        lines = [line for key, names in _rows(same).items() for line in _lines(*key, names, len(same))]
        blocks.append("\n".join([f"  {_heading(calls)}", *lines]))
    return "\n\n".join(blocks)


def _rows(same: tuple[tuple[str, str | None, Refusals], ...]) -> dict[tuple[str | None, Refusals], list[str]]:
    """(format, kernel, refused) of each -> {(kernel, refused): formats}.

    Reasons that differ only in that each names its own format count as equal; _PLACE stands for the name in them.
    """
    times = Counter(refused for _, _, refused in same)
    rows: dict[tuple[str | None, Refusals], list[str]] = {}
    for name, kernel, refused in same:
        if times[refused] == 1:  # else the name in it is no peculiarity of this format
            refused = tuple((other, re.sub(rf"\b{re.escape(name)}\b", _PLACE, reason)) for other, reason in refused)
        rows.setdefault((kernel, refused), []).append(name)
    return rows


def _heading(calls: list[Call]) -> str:
    tokens_of: dict[str, list[int]] = {}
    for call in calls:
        tokens_of.setdefault(call.dtype, []).extend([] if call.tokens is None else [call.tokens])
    if calls[0].operation == "decode":
        return f"decode to {', '.join(tokens_of)}"
    dtypes_of: dict[tuple[int, ...], list[str]] = {}
    for dtype, tokens in tokens_of.items():
        dtypes_of.setdefault(tuple(tokens), []).append(dtype)
    kinds = [
        f"{', '.join(dtypes)} with {', '.join(map(str, tokens))} token{'s' if tokens != (1,) else ''}"
        for tokens, dtypes in dtypes_of.items()
    ]
    return f"linear, mode {calls[0].mode}: {'; '.join(kinds)}"


def _lines(kernel: str | None, refused: Refusals, names: list[str], of: int) -> list[str]:
    shown = f"{kernel or 'no kernel'}: {'all formats' if len(names) == of else ' '.join(names)}"
    lines = textwrap.wrap(shown, WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 8)
    for other, reason in refused:
        passed = f"- {other} {reason.replace(_PLACE, ', '.join(names))}"
        lines += textwrap.wrap(passed, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 8)
    return lines


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} threads" if device.type == "cpu" else "Apple GPU"


def _record(answer: Answer) -> dict:
    refused = [{"kernel": kernel, "reason": reason} for kernel, reason in answer.refused]
    return {**asdict(answer.call), "format": answer.format, "kernel": answer.kernel, "refused": refused}


def run(as_json: bool) -> int:
    """Print the report for every device of this machine."""
    found = {device: ask(device) for device in devices()}
    if as_json:
        listed = [
            {"device": str(device), "name": _name(device), "answers": [_record(answer) for answer in answers]}
            for device, answers in found.items()
        ]
        print(json.dumps({"torch": torch.__version__, "weight": [SIZE, SIZE], "devices": listed}))
        return 0
    print(f"torch {torch.__version__}, weights of {SIZE} x {SIZE}. ", end="")
    print("Under a kernel: those asked before it, and why they refuse.")
    for device, answers in found.items():
        print(f"\n{device} ({_name(device)})\n\n{as_text(answers)}")
    return 0
