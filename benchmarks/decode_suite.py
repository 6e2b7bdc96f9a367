"""The runs of `decode.py`, each in a process of its own, and what has to hold for their results."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from wan_gguf.benchmarks import machine, memory
from wan_gguf.benchmarks.results import Results, say

CHILD = Path(__file__).with_name("decode_child.py")
REFERENCE_VAE = Path(__file__).parent.parent / "reference_model" / "files" / "wan_reference_vae.safetensors"
HOST, STREAMED, FILE = "host", "streamed", "file"
WAYS = {HOST: "host's vae.decode", STREAMED: "streamed", FILE: "streamed into a file"}
MAX_SPREAD = 0.05  # of the peaks of the numbers of frames
# so that glibc gives back at once what is freed, and a peak is one of what is in use
VARIABLES = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
_MB = 1e6


def run(options: argparse.Namespace) -> Results:
    """{"machine", "size", "vae", "runs": [...], "spread": {way: share}, "faults": [...]}.

    The spread is the largest anonymous peak of the process beyond the smallest, as a share of it.
    """
    reason = memory.unavailable()
    if reason:
        raise OSError(reason)
    vae = (options.vae or REFERENCE_VAE).resolve(strict=True)
    runs = []
    for frames in options.frames:
        for way in WAYS:
            say(f"{frames} frames of {options.size} x {options.size} px, {WAYS[way]}")
            runs.append(_child({"way": way, "frames": frames, "size": options.size, "vae": str(vae)}))
    results = {"machine": machine.describe(), "size": options.size, "vae": vae.name, "runs": runs}
    results["spread"] = {way: _spread(runs, way) for way in WAYS}
    return {**results, "faults": faults(results)}


def faults(results: Results) -> list[str]:
    """What is not as it has to be."""
    found = []
    for frames in dict.fromkeys(run["frames"] for run in results["runs"]):
        hashes = {run["frames_sha256"] for run in results["runs"] if run["frames"] == frames}
        if len(hashes) != 1:
            found.append(f"the {frames} frames are not the same bytes in all three runs")
    for way in (STREAMED, FILE):
        if results["spread"][way] > MAX_SPREAD:
            found.append(f"{WAYS[way]}: the peaks differ by {results['spread'][way]:.1%}; {MAX_SPREAD:.0%} is allowed")
    return found


def table(results: Results) -> str:
    """In Markdown: a row for each number of frames."""
    lines = [
        f"{results['vae']}, {results['size']} x {results['size']} px, {results['machine']['cpu']}",
        "",
        "| frames | " + " | ".join(f"{name}, MB | s" for name in WAYS.values()) + " | time, streamed / host |",
        "|" + "---|" * (2 * len(WAYS) + 2),
    ]
    for frames in dict.fromkeys(run["frames"] for run in results["runs"]):
        by_way = {run["way"]: run for run in results["runs"] if run["frames"] == frames}
        cells = [f"{by_way[way]['peak_bytes'] / _MB:.0f} | {by_way[way]['seconds']:.2f}" for way in WAYS]
        ratio = by_way[STREAMED]["seconds"] / by_way[HOST]["seconds"]
        lines.append(f"| {frames} | {' | '.join(cells)} | {ratio:.2f} |")
    spreads = ", ".join(f"{WAYS[way]} {spread:.1%}" for way, spread in results["spread"].items())
    return "\n".join([*lines, "", f"the process's largest peak above its smallest: {spreads}"])


def _spread(runs: list[Results], way: str) -> float:
    peaks = [run["process_bytes"] for run in runs if run["way"] == way]
    return max(peaks) / min(peaks) - 1


def _child(request: Results) -> Results:
    """What the process printed. Raises ChildProcessError."""
    done = subprocess.run(
        [sys.executable, str(CHILD), json.dumps(request)],
        stdout=subprocess.PIPE,
        env={**os.environ, **VARIABLES},
        encoding="utf-8",
    )
    if done.returncode:
        raise ChildProcessError(f"{CHILD.name} ended with exit code {done.returncode}; its messages are above")
    return json.loads(done.stdout.splitlines()[-1])
