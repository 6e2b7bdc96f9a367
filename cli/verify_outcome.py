"""What a check of one record has found, and how it is said."""

from dataclasses import asdict, dataclass, field

CONDITIONS = ("versions", "device", "threads", "cpu_capability", "platform")


@dataclass
class Outcome:
    """Equal only if it was made again and nothing differs. `problem`: why it was not made again.

    `conditions`: then and now, where they disagree.
    """

    record: str
    frames: int = 0
    frames_sha256: str | None = None
    differences: list[str] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problem: str | None = None

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs."""
        return self.problem is None and not self.differences


def changed_conditions(record: dict, now: dict) -> list[str]:
    """ "torch: then 2.11.0, now 2.12.0" for everything that is known of both and not the same."""
    then_all, now_all = _flat(record), _flat(now)
    return [
        f"{name}: then {then_all[name]}, now {value}"
        for name, value in now_all.items()
        if then_all.get(name) is not None and value is not None and then_all[name] != value
    ]


def _flat(record: dict) -> dict:
    known = {name: record[name] for name in CONDITIONS if name in record}
    versions = known.pop("versions", {})
    return {**(versions if isinstance(versions, dict) else {}), **known}


def as_text(outcome: Outcome) -> str:
    """A line that says it, and one for each thing that differs."""
    if outcome.problem is not None:
        head = f"{outcome.record}: NOT CHECKED, {outcome.problem}"
    elif outcome.is_equal:
        count = f", {outcome.frames} frames" if outcome.frames else ""
        head = f"{outcome.record}: equal{count}, {outcome.frames_sha256 or 'the video file'}"
    else:
        head = f"{outcome.record}: DIFFERENT"
    lines = [f"  {text}" for text in [*outcome.differences, *outcome.notes]]
    if outcome.differences and outcome.conditions:
        lines += ["  made under other conditions:", *(f"    {text}" for text in outcome.conditions)]
    return "\n".join([head, *lines])


def as_json(outcomes: list[Outcome], n_records: int) -> dict:
    """All of them; equal only if there is an equal one for each record."""
    results = [{"is_equal": outcome.is_equal, **asdict(outcome)} for outcome in outcomes]
    is_equal = len(outcomes) == n_records and all(outcome.is_equal for outcome in outcomes)
    return {"is_equal": is_equal, "results": results}
