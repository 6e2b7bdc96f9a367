"""What `gpu_memory.py` compares: the host's modes, what must hold in each, and the table."""

from typing import Any

Results = dict[str, Any]

MIB = 1 << 20
# mode -> arguments of the host's main.py
MODES = {
    "whole": ["--disable-dynamic-vram"],
    "part": ["--disable-dynamic-vram"],  # the child tells the host that all but a half of the model's room is taken
    "lowvram": ["--disable-dynamic-vram", "--lowvram"],
    "novram": ["--novram"],
    "dynamic": ["--enable-dynamic-vram"],
    "dynamic, little room": ["--enable-dynamic-vram", "--vram-headroom"],  # and the number of GB
}
DYNAMIC = tuple(mode for mode in MODES if mode.startswith("dynamic"))
# What a process keeps for good once it has computed on a device: workspaces of cuBLAS, 32 MiB per stream and handle.
WORKSPACE_BYTES = 128 * MIB
# Between two rounds of the same work: what allocators round up on the device, and what threads and drivers keep off
# it. A copy of the model, what is looked for, takes several times as much unless it is tiny.
DEVICE_NOISE_BYTES, HOST_NOISE_BYTES = 16 * MIB, 64 * MIB


def faults(results: Results, tiny: bool) -> list[str]:
    """What is wrong, in sentences. `results` is {mode: what its child measured, or {"error": reason}}.

    Every mode must give the bits of the first one. Those with dynamic VRAM need not if the model is `tiny`: the host
    then makes layers of at most 16 KiB dense. Nor is such a model large enough to be loaded in part for certain.
    """
    found = [f"{mode}: {result['error']}" for mode, result in results.items() if "error" in result]
    measured = {mode: result for mode, result in results.items() if "error" not in result}
    for mode, result in measured.items():
        found += [f"{mode}: {fault}" for fault in _own_faults(mode, result, tiny)]
    first, *others = measured or [None]
    for mode in others:
        for name, digest in measured[first]["latents"].items():
            if measured[mode]["latents"][name] != digest and not (tiny and mode in DYNAMIC):
                found.append(f"{mode}: the latent {name} has other bits than in mode {first}")
    return found


def _own_faults(mode: str, result: Results, tiny: bool) -> list[str]:
    found = []
    if not result["repeats"]:
        found.append("sampling again after unloading gave other bits")
    if result["latents"]["lora"] == result["latents"]["plain"]:
        found.append("the LoRA changed nothing")
    if result["not_mapped"]:
        found.append(f"{len(result['not_mapped'])} packed weights on the CPU are no longer the mapped file")
    if result["anon_growth_bytes"] > HOST_NOISE_BYTES:
        found.append(f"a second round left {_mib(result['anon_growth_bytes'])} MiB more anonymous memory")
    return found + (_device_faults(mode, result, tiny) if result["device"] != "cpu" else [])


def _device_faults(mode: str, result: Results, tiny: bool) -> list[str]:
    share, found = result["resident_share"], []
    expected = {"whole": share == 1, "part": tiny or 0 < share < 1, "novram": share == 0}.get(mode, True)
    if not expected:
        found.append(f"{share:.0%} of the packed bytes were on the device")
    if result["dynamic"] != (mode in DYNAMIC):
        found.append(f"dynamic VRAM was {'on' if result['dynamic'] else 'off'}")
    if result["left_bytes"] > WORKSPACE_BYTES:
        found.append(f"{_mib(result['left_bytes'])} MiB stayed on the device after unloading")
    if result["device_growth_bytes"] > DEVICE_NOISE_BYTES:
        found.append(f"a second round left {_mib(result['device_growth_bytes'])} MiB more on the device")
    return found


def table(results: Results) -> str:
    """One row per mode."""
    head = ["mode", "on device", "peak MiB", "left MiB", "anonymous MiB", "grown MiB", "s", "latent", "with LoRA"]
    rows = [head]
    for mode, result in results.items():
        if "error" in result:
            rows.append([mode, "failed", *["-"] * (len(head) - 2)])
            continue
        sizes = [result[key] for key in ("peak_bytes", "left_bytes", "anon_bytes", "anon_growth_bytes")]
        digests = [result["latents"][name][:8] for name in ("plain", "lora")]
        cells = [f"{result['resident_share']:.0%}", *map(_mib, sizes), f"{result['seconds']:.2f}", *digests]
        rows.append([mode, *cells])
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _mib(size: int | None) -> str:
    return "-" if size is None else f"{size / MIB:.0f}"
