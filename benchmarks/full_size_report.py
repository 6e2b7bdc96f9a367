"""The headline numbers of `load.py`, what of them misses its target, and a Markdown table for RESULTS.md."""

from wan_gguf.benchmarks.results import Results

MB = 1e6
LOAD_S, LOAD_ANON_MB = 1.0, 200.0
DENSE_EMBEDDING_MB = 2100.0  # 256,384 x 4096 in F16; what loading and encoding may add stays well below
ENCODER_GROWTH_MB = DENSE_EMBEDDING_MB / 2


def keys(results: Results) -> Results:
    """Name -> number; null where the part was not measured. Peaks are of the whole process, host and torch included."""
    single, encoder, pair = (results.get(name, {}) for name in ("5b", "umt5", "a14b"))
    exact, int8, cold = (single.get(name, {}) for name in ("exact", "int8", "cold"))
    found = {"ti2v5b_q4km_bytes": single.get("file_bytes"), "a14b_q4km_bytes": pair.get("file_bytes")}
    found |= {"umt5_q5km_data_bytes": encoder.get("data_bytes")}
    found |= {name: exact.get(name) for name in ("open_s", "load_s", "open_cpu_s", "load_cpu_s")}
    found |= {"open_cold_s": cold.get("open_s"), "load_cold_s": cold.get("load_s")}
    found |= {"load_anon_mb": _mb(exact, "load_anon"), "process_anon_before_mb": _mb(exact, "before_anon")}
    found |= {name: exact.get(name) for name in ("first_step_s", "step_s", "step_cpu_s")}
    found |= {"step_peak_anon_mb": _mb(exact, "peak_anon"), "step_growth_anon_mb": _growth(exact)}
    found |= {"step_int8_s": int8.get("step_s"), "step_int8_peak_anon_mb": _mb(int8, "peak_anon")}
    found |= {"umt5_load_s": encoder.get("load_s"), "umt5_load_anon_mb": _mb(encoder, "load_anon")}
    found |= {"umt5_encode_s": encoder.get("encode_s"), "umt5_encode_cpu_s": encoder.get("encode_cpu_s")}
    found |= {"umt5_peak_anon_mb": _mb(encoder, "peak_anon"), "umt5_growth_anon_mb": _growth(encoder)}
    found |= {"a14b_high_s": pair.get("high_s"), "a14b_low_s": pair.get("low_s"), "a14b_cpu_s": pair.get("cpu_s")}
    found |= {"a14b_peak_anon_mb": _mb(pair, "peak_anon"), "a14b_growth_anon_mb": _growth(pair)}
    found |= {
        "a14b_file_after_high_mb": _mb(pair, "file_after_high"),
        "a14b_file_after_low_mb": _mb(pair, "file_after_low"),
    }
    return found | {"a14b_swap_mb": _mb(pair, "swap"), "a14b_major_faults": pair.get("major_faults")}


def faults(results: Results) -> list[str]:
    """What is not as it has to be. Times are only told, by `slow`: they depend on what else the machine does."""
    found, numbers = [], keys(results)
    for name, limit in (("load_anon_mb", LOAD_ANON_MB), ("umt5_growth_anon_mb", ENCODER_GROWTH_MB)):
        if numbers[name] is not None and numbers[name] > limit:
            found.append(f"{name}: got {numbers[name]:.0f}; at most {limit:.0f} is allowed")
    if results.get("umt5", {}).get("embedding_is_packed") is False:
        found.append("umt5: the token table is dense; it has to stay packed")
    if numbers["a14b_swap_mb"]:
        found.append(f"a14b_swap_mb: got {numbers['a14b_swap_mb']:.0f}; 0 is allowed")
    for name, record in _runs(results):
        if not record["is_finite"]:
            found.append(f"{name}: the result has NaN or infinite values")
    return found


def slow(results: Results) -> str | None:
    """The time of opening and loading, if it misses its target."""
    open_s, load_s = (keys(results)[name] for name in ("open_s", "load_s"))
    if open_s is None or open_s + load_s <= LOAD_S:
        return None
    return f"open_s + load_s: got {open_s + load_s:.2f}; the target is {LOAD_S:g} on a quiet machine"


def _runs(results: Results) -> list[tuple[str, Results]]:
    """Every record with a result that was looked at."""
    records = {**results, **{f"5b {name}": record for name, record in results.get("5b", {}).items()}}
    return [(name, record) for name, record in records.items() if isinstance(record, dict) and "is_finite" in record]


def table(results: Results) -> str:
    """The numbers that were measured, in Markdown."""
    machine = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    rows = [f"| {name} | {_number(value)} |" for name, value in keys(results).items() if value is not None]
    return "\n".join(
        [f"{machine}; load average {results['loadavg_before']}", "", "| key | value |", "|---|---|", *rows]
    )


def _mb(record: Results, name: str) -> float | None:
    return None if record.get(name) is None else record[name] / MB


def _growth(record: Results) -> float | None:
    """Peak above what the process had before it opened a file."""
    return (record["peak_anon"] - record["before_anon"]) / MB if "peak_anon" in record else None


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"
