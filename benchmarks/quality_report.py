"""The results of `quality.py` as Markdown tables, and their place in docs/quality.md."""

from pathlib import Path

from wan_gguf.benchmarks.quality_plot import plot
from wan_gguf.benchmarks.results import Results

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
PAGE, PICTURE = "quality.md", "images/quality.svg"
_MODELS = (
    "type", "bytes", "of F16", "bits per weight", "PSNR, dB", "SSIM", "GMSD", "latent error, %", "prompts followed",
    "same video",
)  # fmt: skip


def tables(results: Results) -> str:
    """Everything measured, in Markdown."""
    parts = []
    if "models" in results:
        parts += [_setting(results), _models(results), _neighbours(results)]
        if any("real_bytes" in record for record in results["models"].values()):
            parts.append(_real_sizes(results))
    if "weights" in results:
        parts.append(_weights(results["weights"]))
    return "\n\n".join(parts)


def write(results: Results, docs: Path) -> None:
    """Replace what stands between the markers of the page, and the plot. Raises ValueError without markers."""
    page = docs / PAGE
    text = page.read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page}: the lines '{BEGIN}' and '{END}' are needed; the tables go between them")
    page.write_text(f"{head}{BEGIN}\n\n{tables(results)}\n\n{END}{tail}", encoding="utf-8")
    (docs / PICTURE).write_text(plot(results["models"]), encoding="utf-8")


def _setting(results: Results) -> str:
    settings, machine = results["settings"], results["machine"]
    sampler = f"{settings['steps']} steps, {settings['solver']}, cfg {settings['cfg']:g}, shift {settings['shift']:g}"
    program = f"{settings['dtype']}, mode {settings['mode']}, {settings['threads']} threads, torch {settings['torch']}"
    return f"{results['prompts']} prompts, half of them Chinese; {sampler}; {program}; {machine['cpu']}."


def _models(results: Results) -> str:
    rows = [_model(name, record, results["prompts"]) for name, record in results["models"].items()]
    return _table(_MODELS, rows)


def _model(name: str, record: Results, prompts: int) -> list[str]:
    size = [f"{record['bytes']:,}", f"{100 * record['share_of_f16']:.1f} %", f"{record['bits_per_weight']:.2f}"]
    followed = record["followed"]
    judged = f"{followed['right']} of {followed['n']} ({100 * followed['low']:.0f} to {100 * followed['high']:.0f} %)"
    if record["identical"] == prompts:
        return [name, *size, "equal", "1", "0", "0", judged, str(prompts)]
    compared = [
        _interval(record["psnr_db"], 2),
        _interval(record["ssim"], 4),
        _interval(record["gmsd"], 4),
        _interval({key: 100 * value for key, value in record["latent_error"].items()}, 2),
    ]
    return [name, *size, *compared, judged, str(record["identical"])]


def _neighbours(results: Results) -> str:
    rows = [
        [
            f"{pair['better']} over {pair['worse']}",
            _interval(pair["psnr_db"], 2, sign="+"),
            _interval({key: 100 * value for key, value in pair["latent_error"].items()}, 2, sign="+"),
            "yes" if pair["psnr_db"]["is_real"] else "no",
        ]
        for pair in results["neighbours"]
    ]
    return _table(("neighbours by PSNR", "PSNR, dB", "latent error, % points", "more than chance, by PSNR"), rows)


def _real_sizes(results: Results) -> str:
    records = {name: record["real_bytes"] for name, record in results["models"].items() if "real_bytes" in record}
    rows = [[name, *(f"{value / 1e9:.2f}" for value in sizes.values())] for name, sizes in records.items()]
    return _table(("type", "one expert of T2V-A14B, GB", "TI2V-5B, GB"), rows)


def _weights(weights: Results) -> str:
    found, bits = weights["sqnr_db"], weights["bits_per_weight"]
    rows = [
        [name, f"{bits[name]:g}", *("exact" if t[name] is None else f"{t[name]:.1f}" for t in found.values())]
        for name in bits
    ]
    title = f"Signal to noise of single matrices, dB ({weights['quantizer']}):"
    return f"{title}\n\n{_table(('GGML type', 'bits per weight', *found), rows)}"


def _interval(found: Results, digits: int, sign: str = "") -> str:
    return f"{found['mean']:{sign}.{digits}f} ± {found['half_width']:.{digits}f}"


def _table(head: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [list(head), ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
