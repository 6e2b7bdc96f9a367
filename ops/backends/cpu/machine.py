"""Compiles LLVM IR for the CPU of this machine and returns what Python can call."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

try:
    from llvmlite import binding as llvm
    from llvmlite import ir
except ImportError:  # a user's environment without it: the kernels refuse and say so
    llvm = None

KERNEL_TYPE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
Kernel = Callable[[int], None]  # called with the address of a job


@dataclass(frozen=True)
class Machine:
    """A CPU by LLVM's names, and the modules compiled for it, which must stay alive.

    `missing` are features that a CPU of this name has and this one has not: a virtual machine may hide some.
    """

    triple: str
    cpu: str
    features: frozenset[str]
    missing: frozenset[str] = frozenset()
    engines: list = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_x86(self) -> bool:
        """True on x86-64."""
        return self.triple.startswith("x86_64")

    @property
    def float_lanes(self) -> int:
        """float32 numbers in one register."""
        return 16 if "avx512f" in self.features else 8 if "avx" in self.features else 4

    def compile(self, module: ir.Module, name: str) -> Kernel:
        """Compile a module and return its function `void name(ptr job)`; the call releases the GIL."""
        with self.lock:
            optimised = self._optimise(module)
            engine = llvm.create_mcjit_compiler(optimised, self._target)  # takes the target over
            engine.finalize_object()
            self.engines.append(engine)
            address = engine.get_function_address(name)
        return KERNEL_TYPE(address)

    def assembly(self, module: ir.Module) -> str:
        """What `compile` would run, as text; also for a CPU that is not this one."""
        with self.lock:
            return self._target.emit_assembly(self._optimise(module))

    @property
    def _target(self) -> llvm.TargetMachine:
        flags = [f"+{name}" for name in sorted(self.features)] + [f"-{name}" for name in sorted(self.missing)]
        return llvm.Target.from_triple(self.triple).create_target_machine(
            cpu=self.cpu, features=",".join(flags), opt=2, codemodel="jitdefault", jit=True
        )

    def _optimise(self, module: ir.Module) -> llvm.ModuleRef:
        target = self._target
        module.triple = self.triple
        module.data_layout = str(target.target_data)
        parsed = llvm.parse_assembly(str(module))
        parsed.verify()
        # kernels are written as they shall run: level 2 gives nearly the same instructions, later
        options = llvm.create_pipeline_tuning_options(speed_level=1)
        options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
        builder = llvm.create_pass_builder(target, options)
        builder.getModulePassManager().run(parsed, builder)
        return parsed


@cache
def problem() -> str | None:
    """Why nothing can be compiled here, or None; found out once, by compiling and calling a function."""
    if llvm is None:
        return "needs the package llvmlite"
    if sys.byteorder != "little":
        return "needs a little-endian CPU"
    try:
        module = ir.Module("probe")
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.PointerType()]), "probe")
        builder = ir.IRBuilder(function.append_basic_block())
        builder.store(ir.Constant(ir.IntType(64), 1), function.args[0])
        builder.ret_void()
        answer = ctypes.c_int64(0)
        machine().compile(module, "probe")(ctypes.addressof(answer))
    except (RuntimeError, OSError) as error:  # no executable memory allowed, or an unknown CPU
        return f"cannot compile on this machine ({error})"
    return None if answer.value == 1 else "compiled code does not run on this machine"


@cache
def machine() -> Machine:
    """The compiler for this CPU. Only where llvmlite is there."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    triple = llvm.get_process_triple()
    features = llvm.get_host_cpu_features()
    there = frozenset(name for name, has in features.items() if has)
    return Machine(triple, llvm.get_host_cpu_name(), there, frozenset(features) - there)
