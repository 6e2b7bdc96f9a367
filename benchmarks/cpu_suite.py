"""Runs the parts that `cpu.py` was asked for, each a module of this folder with `part(options, results)`."""

import argparse
import importlib
import os

import torch

from wan_gguf.benchmarks import machine, peer_diffusers
from wan_gguf.benchmarks.results import Results, say


def run(options: argparse.Namespace) -> Results:
    """Plain numbers, ready for JSON. `skipped` says what was left out and why."""
    if options.threads:
        torch.set_num_threads(options.threads)
    dtype = machine.exact_dtype(options.dtype)
    results: Results = {"machine": machine.describe(), "host": os.environ["COMFYUI_DIR"], "dtype": dtype}
    results |= {"linears": [], "forwards": [], "memory": {}, "startup": {}, "skipped": {}}
    say(", ".join(f"{name} {value}" for name, value in results["machine"].items()))
    say(f"ours compute in {dtype}")
    if not peer_diffusers.is_installed():
        results["skipped"]["diffusers"] = "not installed; `python3 cli test` installs it"
    for name in ["linear"] if options.quick else options.parts:
        # one by one: all but the first need the host, whose import takes seconds
        importlib.import_module(f"wan_gguf.benchmarks.{name}").part(options, results)
    return results
