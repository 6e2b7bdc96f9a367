"""The results of `cpu.py` as the keys that others read, and as Markdown tables for RESULTS.md."""

from collections.abc import Iterable
from typing import Any

from wan_gguf.benchmarks.results import DENSE, Results

MODES, TOKENS = ("exact", "int8"), (390, 1950)


def with_keys(results: Results) -> Results:
    """The headline numbers first, null where nothing was measured, then everything."""
    return {**keys(results), **results}


def keys(results: Results) -> dict[str, float | None]:
    """The headline numbers: the first linear layer measured, the first recipe's forwards."""
    first = results["linears"][0] if results["linears"] else {}
    found = {
        f"linear_{mode}_speed_vs_{dense}": _inverse(_of(first, f"time_vs_{dense}", mode))
        for mode in MODES
        for dense in DENSE
    }
    recipe = results["forwards"][0]["recipe"] if results["forwards"] else None
    forwards = {record["tokens"]: record for record in results["forwards"] if record["recipe"] == recipe}
    for tokens in TOKENS:
        for mode in MODES:
            for dense in DENSE:
                ratio = _of(forwards.get(tokens, {}), f"time_vs_{dense}", mode)
                found[f"forward{tokens}_{mode}_time_vs_{dense}"] = ratio
    for mode in MODES:
        found[f"error_{mode}"] = _of(first, "errors", mode)
        found[f"error_{mode}_bf16"] = _of(first, "errors_bf16", mode)
    for tokens in TOKENS:
        for mode in MODES:
            found[f"memory{tokens}_{mode}_over_largest_layer"] = over_largest_layer(results["memory"], tokens, mode)
    found["first_forward_s"] = _of(results["startup"], "exact", "after_install_s")
    found["first_forward_after_restart_s"] = _of(results["startup"], "exact", "after_restart_s")
    found["first_forward_int8_s"] = _of(results["startup"], "int8", "after_install_s")
    found["first_forward_int8_after_restart_s"] = _of(results["startup"], "int8", "after_restart_s")
    return found


def over_largest_layer(memory: Results, tokens: int, mode: str) -> float | None:
    """(peak of the mode - peak of the activations alone) / size of the largest layer when decoded."""
    peak = _of(memory, str(tokens), mode, "peak_bytes")
    alone = _of(memory, str(tokens), "activations", "peak_bytes")
    layer = _of(memory, str(tokens), "activations", "largest_layer_bytes")
    return None if peak is None or alone is None or layer is None else (peak - alone) / layer


def tables(results: Results) -> str:
    """Everything measured, in Markdown."""
    machine = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    parts = [f"{machine}; ours compute in {results['dtype']}"]
    parts += [f"{mode}: {kernel}" for mode, kernel in results.get("kernels", {}).items()]
    parts.append(_timed("linear layer", "ms", 1000, [(r["case"], r) for r in results["linears"]]))
    titles = [(f"{r['recipe']}, {r['tokens']} tokens, {r['layers']} layers", r) for r in results["forwards"]]
    parts.append(_timed("forward", "s", 1, titles))
    rows = [[name, _number(value)] for name, value in keys(results).items() if value is not None]
    parts.append(_table(["key", "value"], rows))
    parts.append("\n".join(f"not measured: {what}: {reason}" for what, reason in results["skipped"].items()))
    return "\n\n".join(part for part in parts if part)


def shares(seconds: dict[str, float]) -> str:
    """{part: seconds}, "whole" among them -> a Markdown table, largest first."""
    whole = seconds["whole"]
    named = {name: value for name, value in seconds.items() if name != "whole"}
    named["modulation, additions, the rest"] = whole - sum(named.values())
    rows = sorted(named.items(), key=lambda item: -item[1])
    lines = [f"| {name} | {value:.3f} | {100 * value / whole:.1f} % |" for name, value in rows]
    return "\n".join(["| part | seconds | share |", "|---|---|---|", *lines, f"| whole | {whole:.3f} | 100 % |"])


def _timed(title: str, unit: str, factor: float, records: list[tuple[str, Results]]) -> str:
    """One row per record: each contender's time, and errors behind it in brackets."""
    names = list(dict.fromkeys(name for _, record in records for name in record["seconds"]))
    rows = []
    for case, record in records:
        errors = record["errors"] if "errors" in record else record["differences"]
        cells = [_cell(record["seconds"].get(name), factor, errors.get(name)) for name in names]
        rows.append([case, *cells])
    return _table([f"{title}, {unit} (error)", *names], rows) if rows else ""


def _cell(seconds: float | None, factor: float, error: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{_number(factor * seconds)}" + ("" if error is None else f" ({error:.1e})")


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _inverse(value: float | None) -> float | None:
    return None if value is None else 1 / value


def _of(tree: Results, *path: str) -> Any:
    """The value at that path, or None where it ends."""
    for name in path:
        if name not in tree:
            return None
        tree = tree[name]
    return tree
