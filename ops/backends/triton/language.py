"""`triton` and `tl` for every kernel file, or stand-ins that only let those files be imported where Triton is missing.

Nothing can run on the stand-ins: every kernel refuses first while `MISSING` (`machine.py`).
"""

from collections.abc import Callable

try:
    import triton
    import triton.language as tl

    MISSING = False
except ImportError:
    MISSING = True

    class _Absent:
        """What decorators and annotations of a kernel touch while its file is imported."""

        constexpr = object

        @staticmethod
        def jit(function: Callable | None = None, **options: object) -> object:
            return function or (lambda decorated: decorated)

    triton = tl = _Absent()

__all__ = ["MISSING", "tl", "triton"]
