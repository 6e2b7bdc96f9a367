"""Which threads a kernel's job runs on."""

import ctypes
import sys
from pathlib import Path

import pytest
import torch

from wan_gguf.ops.backends.cpu import threads


def mapped_file(address: int) -> Path:
    """The file that this process has mapped there (/proc/self/maps, proc(5))."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(number, 16) for number in line.split()[0].split("-"))
        if first <= address < last:
            return Path(line.split(maxsplit=5)[5])
    raise ValueError(f"nothing is mapped at {address:#x}")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="OpenMP by GNU's interface is Linux's")
def test_torch_s_runtime_is_taken_where_another_package_has_brought_one():
    pytest.importorskip("sentencepiece")
    parallel = threads._gomp_parallel()
    file = mapped_file(ctypes.cast(parallel, ctypes.c_void_p).value)
    packages = Path(torch.__file__).parent.parent
    assert file.relative_to(packages).parts[0] in ("torch", "torch.libs")  # the second in wheels for aarch64
    assert "omp" in file.name
