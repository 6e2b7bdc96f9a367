"""Measurements that need a process of their own: the options such a script takes, and running it."""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from wan_gguf.benchmarks.machine import DTYPES, exact_dtype


@dataclass(frozen=True)
class Setting:
    """The model of one measurement; `what` is a mode or what else the script measures."""

    what: str
    recipe: str
    dtype: str
    layers: int
    tokens: int
    tiny: bool

    @classmethod
    def of(cls, options: argparse.Namespace, what: str, tokens: int) -> "Setting":
        """From the options of `cpu.py`; the first recipe."""
        dtype = exact_dtype(options.dtype)
        return cls(what, options.recipes[0], dtype, options.layers, tokens, options.tiny)

    def arguments(self) -> list[str]:
        """What `parse` reads."""
        words = [self.what, "--recipe", self.recipe, "--dtype", self.dtype]
        words += ["--layers", str(self.layers), "--tokens", str(self.tokens)]
        return [*words, "--tiny"] if self.tiny else words


def parse(what: tuple[str, ...], description: str) -> Setting:
    """The setting on this script's command line."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("what", choices=what)
    made.add_argument("--recipe", default="Q4_K")
    made.add_argument("--dtype", choices=tuple(DTYPES), default="fp32")
    made.add_argument("--layers", type=int, default=4)
    made.add_argument("--tokens", type=int, default=390)
    made.add_argument("--tiny", action="store_true")
    return Setting(**vars(made.parse_args()))


def run(script: str, setting: Setting, **variables: str) -> dict[str, float]:
    """Run a script of this folder; returns the JSON object it prints. Raises ChildProcessError."""
    command = [sys.executable, str(script), *setting.arguments()]
    done = subprocess.run(command, stdout=subprocess.PIPE, env={**os.environ, **variables}, encoding="utf-8")
    if done.returncode:
        raise ChildProcessError(f"{Path(script).name} {setting.what} ended with exit code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])
