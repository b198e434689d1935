"""A whole module: every kernel as a function, every program as an export.

The memory layout is the contract of spec/manifest.md, "WebAssembly".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hearth.codegen.wasm.assembler import Function, Operand, i32, op
from hearth.codegen.wasm.kernels import METHODS, ConvMethods, KernelFunction, Target
from hearth.codegen.wasm.module import Module
from hearth.codegen.wasm.opcodes import I32
from hearth.codegen.wasm.templates import kernel_function
from hearth.codegen.wasm.threads import SCRATCH, barrier, meeting
from hearth.ir.kernel import Kernel

BUFFER_TABLE = 2048
SCRATCH_ALIGNMENT = 256  # threads do not share a cache line


@dataclass(frozen=True)
class Call:
    """One step of a program: a kernel and the manifest's buffer for each of its parameters."""

    kernel: int
    buffers: tuple[int, ...]


@dataclass(frozen=True)
class WasmModule:
    """`code` is the binary; `scratch_bytes` is what each thread needs."""

    code: bytes
    scratch_bytes: int
    module: Module
    names: tuple[str, ...]  # the function of each kernel; equal kernels share one

    def wat(self, name: str | None = None) -> str:
        """The text form of a kernel or a program, or of everything."""
        return self.module.text(name)


@dataclass(frozen=True)
class Features:
    """What a module may use beyond 128-bit SIMD."""

    relaxed: bool  # relaxed SIMD: fused multiply-add
    threads: bool


def emit_module(
    kernels: Sequence[Kernel],
    programs: Mapping[str, Sequence[Call]],
    *,
    relaxed: bool,
    threads: bool,
    methods: ConvMethods = METHODS["fast"],
) -> WasmModule:
    """The module for one combination of features."""
    (module,) = emit_modules(kernels, programs, [Features(relaxed, threads)], methods)
    return module


def emit_modules(
    kernels: Sequence[Kernel],
    programs: Mapping[str, Sequence[Call]],
    variants: Sequence[Features],
    methods: ConvMethods = METHODS["fast"],
) -> list[WasmModule]:
    """One module for each combination of features; the kernels are emitted once for all.

    Convolutions are computed by the best of `methods` that fits, else directly.
    """
    target = Target.new(methods)
    functions = [kernel_function(target, kernel) for kernel in kernels]
    largest = max((f.scratch_bytes for f in functions), default=0)
    scratch_bytes = -(-largest // SCRATCH_ALIGNMENT) * SCRATCH_ALIGNMENT
    names = tuple(f.function.name for f in functions)
    modules = []
    for features in variants:
        twins = target.maths.relaxed_twins if features.relaxed else {}
        module = target.module.variant(twins, shared=features.threads)
        wait = barrier(module) if features.threads else None
        if wait is not None:
            module.twins[meeting(module)] = wait
        for name, calls in programs.items():
            module.export(_program(name, calls, functions, scratch_bytes, wait))
        modules.append(WasmModule(module.encode(), scratch_bytes, module, names))
    return modules


def _program(name: str, calls: Sequence[Call], functions: Sequence[KernelFunction],
             scratch_bytes: int, wait: Function | None) -> Function:  # fmt: skip
    f = Function(name, (I32, I32, I32))
    batch, thread, threads = (f.param(i) for i in range(3))
    own_scratch = op("i32.load", i32(0), immediate=SCRATCH) + thread * scratch_bytes
    scratch = f.local(own_scratch)
    may_follow_serial = True  # only serial calls since the last barrier
    for call in calls:
        own = functions[call.kernel]
        # Buffers may share memory, so only calls of one thread need no barrier in between.
        if wait is not None and call is not calls[0] and not (own.is_serial and may_follow_serial):
            f.perform(f.call(wait, threads))
            may_follow_serial = True
        may_follow_serial = may_follow_serial and own.is_serial
        pointers = [_address(buffer) for buffer in call.buffers]
        f.perform(f.call(own.function, batch, thread, threads, scratch, *pointers))
    if wait is not None:
        # Nobody may start the next program (or write inputs) while another still reads.
        f.perform(f.call(wait, threads))
    return f


def _address(buffer: int) -> Operand:
    return op("i32.load", i32(0), immediate=BUFFER_TABLE + 4 * buffer)
