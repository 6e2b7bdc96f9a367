"""ggml's matrix product on the same packed bytes as ours, through the shared libraries of stable-diffusion.cpp.

The folder given is searched for them; ggml may lie in libraries of its own (`libggml-base`, `libggml-cpu`) or inside
`libstable-diffusion`. Driven with ctypes: one graph, mul_mat and the bias' addition, computed again on every call, in a
plain buffer, as stable-diffusion.cpp does. Declarations: ggml.h and ggml-cpu.h, unchanged since 2024.
"""

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from wan_gguf.ops.packed import PackedWeight

_PATTERNS = {"win32": "*.dll", "darwin": "*.dylib"}
_F32 = 0
_SPARE_BYTES = 1 << 20  # for the graph and the tensors' headers


class _InitParams(ctypes.Structure):
    _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


class _Plan(ctypes.Structure):
    """The fields set here; those behind them differ between versions, and the room for them is ample."""

    _fields_ = [("work_size", ctypes.c_size_t), ("work_data", ctypes.c_void_p), ("rest", ctypes.c_uint8 * 240)]


_POINTER, _INT64 = ctypes.c_void_p, ctypes.c_int64
_FUNCTIONS = {
    "ggml_init": (_POINTER, [_InitParams]),
    "ggml_free": (None, [_POINTER]),
    "ggml_new_tensor_2d": (_POINTER, [_POINTER, ctypes.c_int, _INT64, _INT64]),
    "ggml_get_data": (_POINTER, [_POINTER]),
    "ggml_mul_mat": (_POINTER, [_POINTER] * 3),
    "ggml_add": (_POINTER, [_POINTER] * 3),
    "ggml_new_graph": (_POINTER, [_POINTER]),
    "ggml_build_forward_expand": (None, [_POINTER] * 2),
    "ggml_graph_plan": (_Plan, [_POINTER, ctypes.c_int, _POINTER]),
    "ggml_graph_compute": (ctypes.c_int, [_POINTER, ctypes.POINTER(_Plan)]),
    "ggml_cpu_init": (None, []),
}
Library = dict[str, Callable]


def load(folder: Path) -> Library:
    """ggml's functions from the libraries below `folder`. Raises FileNotFoundError naming what is not there."""
    pattern = _PATTERNS.get(sys.platform, "*.so")
    # those that others need come first: ggml-base, then ggml-cpu, then the rest
    paths = sorted(folder.rglob(pattern), key=lambda path: ("base" not in path.name, "cpu" not in path.name))
    libraries = [ctypes.CDLL(str(path)) for path in paths if "ggml" in path.name or "stable-diffusion" in path.name]
    found = {}
    for name, (result, arguments) in _FUNCTIONS.items():
        function = next((getattr(library, name) for library in libraries if hasattr(library, name)), None)
        if function is None:
            raise FileNotFoundError(f"no shared library below {folder} has {name}; name the folder of a build")
        function.restype, function.argtypes = result, arguments
        found[name] = function
    found["ggml_cpu_init"]()
    return found


class Linear:
    """x (m, k) float32 -> (m, n) float32; the result is overwritten by the next call."""

    def __init__(self, ggml: Library, packed: PackedWeight, bias: torch.Tensor, x: torch.Tensor):
        self._ggml, (n, k), m = ggml, packed.shape, x.shape[0]
        nbytes = packed.nbytes + 4 * (x.numel() + n + 2 * m * n) + _SPARE_BYTES
        self._context = ggml["ggml_init"](_InitParams(nbytes, None, False))
        weight = self._tensor(packed.format.ggml_type, k, n, packed.data)
        inputs = self._tensor(_F32, k, m, x)
        biases = self._tensor(_F32, n, 1, bias)
        product = ggml["ggml_mul_mat"](self._context, weight, inputs)
        result = ggml["ggml_add"](self._context, product, biases)
        self._graph = ggml["ggml_new_graph"](self._context)
        ggml["ggml_build_forward_expand"](self._graph, result)
        self._plan = ggml["ggml_graph_plan"](self._graph, torch.get_num_threads(), None)
        self._work = torch.empty(max(1, self._plan.work_size), dtype=torch.uint8)
        self._plan.work_data = self._work.data_ptr()
        memory = (ctypes.c_float * (m * n)).from_address(ggml["ggml_get_data"](result))
        self._y = torch.frombuffer(memory, dtype=torch.float32).view(m, n)

    def _tensor(self, ggml_type: int, ne0: int, ne1: int, values: torch.Tensor) -> int:
        tensor = self._ggml["ggml_new_tensor_2d"](self._context, ggml_type, ne0, ne1)
        ctypes.memmove(self._ggml["ggml_get_data"](tensor), values.data_ptr(), values.nbytes)
        return tensor

    def __call__(self) -> torch.Tensor:
        status = self._ggml["ggml_graph_compute"](self._graph, ctypes.byref(self._plan))
        if status != 0:
            raise RuntimeError(f"ggml_graph_compute returned {status}")
        return self._y

    def __del__(self) -> None:
        self._ggml["ggml_free"](self._context)
