"""What `quality.py` keeps of its work: small files named by a hash of everything that they depend on."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


def digest(*parts: Any) -> str:
    """24 hex digits of what json.dumps takes."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; afterwards the file is at `path`, or nowhere if something was raised."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def kept_arrays(path: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays in the file, made first if it is not there."""
    if not path.is_file():
        with replacing(path) as part, part.open("wb") as file:
            np.savez_compressed(file, **make())
    with np.load(path, allow_pickle=False) as found:
        return dict(found)


def kept_value(path: Path, make: Callable[[], Any]) -> Any:
    """The JSON value in the file, made first if it is not there."""
    if not path.is_file():
        with replacing(path) as part:
            part.write_text(json.dumps(make()), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))
