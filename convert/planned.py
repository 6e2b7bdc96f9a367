"""A plan that fits a size: a type for every matrix, chosen by measured error, instead of a published mixture.

What the published rule leaves unquantised stays as it is there. The size is that of the whole file, with its metadata,
or the average of bits over the matrices that the rule quantises.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from .budget import Option, choose, smallest
from .errors import ConvertError
from .ggml_types import file_type_id
from .importance import Importance, place
from .plan import Plan, plan_gguf
from .quantize import weighs_columns
from .source import Source
from .type_costs import ROWS, MatrixCosts, TypeCost, sizes

PLAN_KEY = "wan_gguf.plan"
PLANNED = "planned"  # in place of a file type's name
_MOSTLY = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}  # llama.cpp has no number for the types alone


@dataclass(frozen=True)
class Target:
    """What is wanted: bytes of the whole file, or bits for each weight of the quantised matrices."""

    nbytes: int | None = None
    bits: float | None = None

    def __str__(self) -> str:
        return f"{self.nbytes} bytes" if self.nbytes is not None else f"{self.bits:g} bits per weight"


@dataclass(frozen=True)
class Choice:
    """A matrix and the type it gets."""

    name: str
    n_weights: int
    cost: TypeCost


@dataclass(frozen=True)
class Group:
    """The matrices at the same place of every block; `error` is the root of their mean square error, `harm` a sum."""

    name: str
    bits: float
    error: float
    harm: float
    types: dict[str, int]


def check_possible(source: Source, target: Target, plain: bool = False, license_name: str | None = None) -> None:
    """Raise ConvertError where no plan can have that size; nothing is measured for it."""
    drafts = _Drafts(source, target, sizes(source), Importance(), plain, license_name)
    _refuse_impossible(target, drafts.smallest(), drafts.largest())


def plan_target(
    source: Source,
    target: Target,
    costs: Sequence[MatrixCosts],
    importance: Importance,
    plain: bool = False,
    license_name: str | None = None,
) -> tuple[Plan, list[Choice]]:
    """The plan with the least harm within the target, and its choices. Raises ConvertError for an impossible target."""
    drafts = _Drafts(source, target, costs, importance, plain, license_name)
    least = drafts.smallest()
    _refuse_impossible(target, least, drafts.largest())
    budget = _room(target, least)
    while True:
        try:
            found = drafts.make(choose(drafts.options, budget))
        except ValueError:  # only the smallest types fit beside what the metadata would say of any others
            return least
        over = _matrix_bytes(found[1]) - _room(target, found)
        if over <= 0:
            return found
        budget -= over


class _Drafts:
    """Plans of one source for one target, by the options that were taken."""

    def __init__(
        self,
        source: Source,
        target: Target,
        costs: Sequence[MatrixCosts],
        importance: Importance,
        plain: bool,
        license_name: str | None,
    ):
        if not costs:
            raise ConvertError(f"{source.path.name}: has no matrix that may be quantised; give --type F16 instead")
        self.base = plan_gguf(source, "Q8_0", plain, license_name)
        self.target, self.costs, self.importance, self.plain = target, costs, importance, plain
        self.options = [[Option(cost.nbytes, cost.harm) for cost in matrix.costs] for matrix in costs]

    def make(self, chosen: Sequence[int]) -> tuple[Plan, list[Choice]]:
        """The plan with that option of each matrix."""
        choices = [
            Choice(matrix.name, matrix.n_weights, matrix.costs[i]) for matrix, i in zip(self.costs, chosen, strict=True)
        ]
        return _plan(self.base, choices, self.target, self.importance, self.plain), choices

    def smallest(self) -> tuple[Plan, list[Choice]]:
        """All in the smallest type."""
        return self.make([smallest(options) for options in self.options])

    def largest(self) -> tuple[Plan, list[Choice]]:
        """All in the largest type."""
        return self.make([len(options) - 1 for options in self.options])


def _plan(base: Plan, choices: Sequence[Choice], target: Target, importance: Importance, plain: bool) -> Plan:
    types = {choice.name: choice.cost.type_name for choice in choices}
    tensors = tuple(
        replace(tensor, type_name=types.get(tensor.source, tensor.type_name)) if tensor.data is None else tensor
        for tensor in base.tensors
    )
    metadata = {**base.metadata, "general.file_type": file_type_id(_most_common(choices))}
    if not plain:
        metadata[PLAN_KEY] = json.dumps(summary_of(choices, target, importance), separators=(",", ":"))
    return Plan("gguf", PLANNED, tensors, metadata, importance)


def _most_common(choices: Sequence[Choice]) -> str:
    """The file type nearest to what most weights have."""
    weights: dict[str, int] = {}
    for choice in choices:
        weights[choice.cost.type_name] = weights.get(choice.cost.type_name, 0) + choice.n_weights
    name = max(weights, key=lambda name: weights[name])
    return _MOSTLY.get(name, name)


def _matrix_bytes(choices: Sequence[Choice]) -> int:
    return sum(choice.cost.nbytes for choice in choices)


def _room(target: Target, made: tuple[Plan, list[Choice]]) -> int:
    """Bytes for the matrices, with the other parts of the file as they are in this plan."""
    plan, choices = made
    if target.bits is not None:
        return int(target.bits * sum(choice.n_weights for choice in choices) / 8)
    return target.nbytes - (plan.nbytes - _matrix_bytes(choices))


def _refuse_impossible(target: Target, least: tuple[Plan, list[Choice]], most: tuple[Plan, list[Choice]]) -> None:
    low, high = (f"{plan.nbytes} bytes ({bits_of(choices):.2f} bits per weight)" for plan, choices in (least, most))
    if _matrix_bytes(least[1]) > _room(target, least):
        raise ConvertError(f"a file of {target} cannot be made: the smallest has {low}; ask for that or more")
    if _matrix_bytes(most[1]) < _room(target, most):
        raise ConvertError(f"a file of {target} is more than there is: the largest has {high}; ask for that or less")


def bits_of(choices: Sequence[Choice]) -> float:
    """Bits for each weight of the matrices."""
    return 8 * _matrix_bytes(choices) / sum(choice.n_weights for choice in choices)


def groups_of(choices: Sequence[Choice]) -> list[Group]:
    """The choices by their place in a block, in the order of the file."""
    found: dict[str, list[Choice]] = {}
    for choice in choices:
        found.setdefault(place(choice.name), []).append(choice)
    return [_group(name, members) for name, members in found.items()]


def _group(name: str, members: list[Choice]) -> Group:
    types: dict[str, int] = {}
    for member in members:
        types[member.cost.type_name] = types.get(member.cost.type_name, 0) + 1
    error = (sum(member.cost.error for member in members) / len(members)) ** 0.5
    ordered = dict(sorted(types.items(), key=lambda item: (-item[1], item[0])))
    return Group(name, bits_of(members), error, sum(member.cost.harm for member in members), ordered)


def summary_of(choices: Sequence[Choice], target: Target, importance: Importance) -> dict[str, Any]:
    """What the file saves of its plan; the type of every matrix stands in its table of tensors anyway."""
    groups = {
        group.name: {"bits": round(group.bits, 3), "error": _short(group.error), "harm": _short(group.harm)}
        | {"types": group.types}
        for group in groups_of(choices)
    }
    return {
        "target": str(target),
        "bits": round(bits_of(choices), 4),
        "harm": _short(sum(choice.cost.harm for choice in choices)),
        "importance": importance.record(),
        "weighted": weighs_columns(),
        "rows": ROWS,
        "groups": groups,
    }


def _short(value: float) -> float:
    return float(f"{value:.4g}")
