"""A Triton driver for a GPU that is not there: launches compile down to the named GPU's machine code, then do nothing.

What is compiled is exactly what a launch on that GPU would compile, because Triton's own launch code looks at the real
arguments (types, alignment, values of 1) and options. Registers and spills are read from the binary.
"""

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget

# Shared memory one program may have, bytes: CUDA programming guide, compute capabilities; RDNA and CDNA have 64 KiB.
SHARED_BYTES = {75: 65536, 80: 166912, 86: 101376, 89: 101376, 90: 232448, 100: 232448, 120: 101376}
WARP = {"gfx90a": 64, "gfx942": 64}
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@dataclass(frozen=True)
class Launch:
    """One compiled launch."""

    kernel: str
    registers: int
    spills: int  # bytes of stack on NVIDIA, spilled registers on AMD
    code: str  # PTX or AMD assembly


@dataclass
class AbsentGpu:
    """The driver; `launches` grows with every launch, `arch` is 75 .. 120 or a gfx name."""

    arch: int | str
    launches: list[Launch] = field(default_factory=list)

    @property
    def target(self) -> GPUTarget:
        if isinstance(self.arch, int):
            return GPUTarget("cuda", self.arch, 32)
        return GPUTarget("hip", self.arch, WARP.get(self.arch, 32))

    @property
    def utils(self) -> "AbsentGpu":
        return self

    def get_current_device(self) -> str:
        return f"absent {self.arch}"  # a key of Triton's caches, so that no real device's kernels are found here

    def get_current_stream(self, device: str) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_device_properties(self, device: str) -> dict[str, int]:
        return {"max_shared_mem": SHARED_BYTES.get(self.arch, 65536)}

    def load_binary(self, name: str, binary: bytes, shared: int, device: str) -> tuple[int, int, int, int, int]:
        return 1, 1, 0, 0, 1024

    def launcher_cls(self, source, metadata):
        return lambda *arguments: None

    def record(self, kernel) -> None:
        usage = _nvidia_usage(kernel) if isinstance(self.arch, int) else _amd_usage(kernel)
        code = kernel.asm["ptx" if isinstance(self.arch, int) else "amdgcn"]
        self.launches.append(Launch(kernel.name, *usage, code))


def _nvidia_usage(kernel) -> tuple[int, int]:
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder, "kernel.cubin")
        cubin.write_bytes(kernel.asm["cubin"])
        command = [str(TOOLS / "cuobjdump"), "--dump-resource-usage", str(cubin)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", said)
    return int(found[1]), int(found[2]) + int(found[3])


def _amd_usage(kernel) -> tuple[int, int]:
    said = kernel.asm["amdgcn"]
    registers = re.search(r"\.vgpr_count:\s*(\d+)", said)
    spills = re.findall(r"\.[sv]gpr_spill_count:\s*(\d+)", said)
    return int(registers[1]), sum(map(int, spills))


@contextlib.contextmanager
def absent_gpu(arch: int | str) -> Iterator[AbsentGpu]:
    """Triton launches on this GPU inside the block; CPU tensors stand for its memory."""
    gpu, driver = AbsentGpu(arch), triton.runtime.driver
    before, run = driver._active, triton.JITFunction.run

    def recorded(function, *arguments, **options):
        kernel = run(function, *arguments, **options)
        gpu.record(kernel)
        return kernel

    driver.set_active(gpu)
    triton.JITFunction.run = recorded
    try:
        yield gpu
    finally:
        triton.JITFunction.run = run
        driver._active = before
