"""One kernel as one function: `(batch, thread, threads, scratch, pointers…)`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hearth.codegen.wasm.assembler import Function, Operand, op
from hearth.codegen.wasm.loops import LoopEmitter, LoopPlan
from hearth.codegen.wasm.maths import Maths
from hearth.codegen.wasm.module import Module
from hearth.codegen.wasm.opcodes import I32
from hearth.codegen.wasm.threads import part
from hearth.codegen.wasm.vectorize import TYPICAL_BATCH
from hearth.ir.dim import product
from hearth.ir.kernel import Kernel
from hearth.ir.walking import stage_expressions, walk_kernel

SERIAL_WORK = 16384  # expressions evaluated; below that a barrier costs more than a second thread
VECTOR_UNIT = 16  # threads split the vector axis at cache lines


@dataclass(frozen=True, slots=True)
class KernelFunction:
    function: Function
    scratch_bytes: int  # per thread
    is_serial: bool  # only thread 0 works


class ConvMethod(Enum):
    """How a convolution is computed; of Winograd the values are the outputs of a tile's side."""

    DIRECT = 0  # as a matrix product over planes
    WINOGRAD_2 = 2  # F(2x2, 3x3), and what errs as little: for strides, up to 3 taps of each phase
    WINOGRAD_4 = 4  # F(4x4, 3x3), F(3x3, 4x4), F(2x2, 5x5)
    FOURIER = 256  # large windows, of stride 1


@dataclass(frozen=True)
class ConvMethods:
    """What convolutions may use: the two products that give images, and the weight gradient."""

    images: tuple[ConvMethod, ...]
    weights: tuple[ConvMethod, ...]

    @staticmethod
    def only(method: ConvMethod) -> ConvMethods:
        """This method wherever it can be used."""
        return ConvMethods((method,), (method,))

    def of(self, kind: str) -> tuple[ConvMethod, ...]:
        """Those for a kind of `ConvTemplate`."""
        return self.weights if kind == "weight_grad" else self.images


# F(4x4, 3x3) errs three to eight times as much as a direct convolution, F(2x2, 3x3) no more, and
# Fourier transforms of large windows less.  But tiles mix the elements of a filter: where no input
# reaches a weight, its gradient is exactly 0 only if it is computed directly, and Adam magnifies
# what is left instead.
METHODS = {
    "fast": ConvMethods(tuple(ConvMethod), tuple(ConvMethod)),
    "strict": ConvMethods(
        (ConvMethod.DIRECT, ConvMethod.WINOGRAD_2, ConvMethod.FOURIER), (ConvMethod.DIRECT,)
    ),
}


@dataclass(frozen=True)
class Target:
    """Where functions go.

    They are the same for every combination of features: one thread is a team of one, and what uses
    relaxed SIMD has a twin without it.
    """

    module: Module
    maths: Maths
    methods: ConvMethods = METHODS["fast"]  # that convolutions may use

    @staticmethod
    def new(methods: ConvMethods = METHODS["fast"]) -> Target:
        module = Module()
        return Target(module, Maths(module), methods)


def loop_function(target: Target, kernel: Kernel) -> KernelFunction:
    plan = LoopPlan.of(kernel)
    f = new_function(kernel)
    _batch, thread, threads, scratch, *pointers = parameters(f)
    axis = _split_axis(plan)
    emitter = LoopEmitter(f, target.maths, plan, pointers, scratch=scratch)
    if axis is None:
        f.return_if(thread)
    else:
        unit = VECTOR_UNIT if axis == plan.vector_axis else 1
        extent = emitter.levels.dim(plan.kernel.axes[axis])
        emitter.ranges = {axis: split(f, extent, unit, thread, threads)}
        emitter.aligned = frozenset((axis,))
    emitter.emit()
    return KernelFunction(target.module.add(f), emitter.e.kept.size_bytes, axis is None)


def new_function(kernel: Kernel) -> Function:
    return Function(kernel.name, (I32,) * (4 + len(kernel.params)))


def parameters(f: Function) -> list[Operand]:
    """batch, thread, threads, scratch, then one pointer per kernel parameter."""
    return [f.param(i) for i in range(len(f.param_types))]


def split(f: Function, extent: Operand, unit: int, thread: Operand,
          threads: Operand) -> tuple[Operand, Operand]:  # fmt: skip
    """This thread's range of an extent; a thread without work returns at once."""
    start, end = part(f, extent, unit, thread, threads)
    f.return_if(op("i32.ge_s", start, end))
    return start, end


def _split_axis(plan: LoopPlan) -> int | None:
    """The axis that threads divide, or None where one thread does it all."""
    kernel = plan.kernel
    if not kernel.axes or _work(kernel) < SERIAL_WORK:
        return None
    sizes = [extent.at(TYPICAL_BATCH) for extent in kernel.axes]
    # The outermost long axis keeps each thread's memory together.
    for axis, size in enumerate(sizes):
        if size >= 16 and axis != plan.vector_axis:
            return axis
    return max(range(len(sizes)), key=lambda axis: sizes[axis])


def _work(kernel: Kernel) -> int:
    """Expressions evaluated for a typical batch."""
    per_point = sum(
        product(stage.axes).at(TYPICAL_BATCH)
        * sum(1 for _ in walk_kernel(stage_expressions(stage)))
        for stage in kernel.stages
    )
    return per_point * kernel.points.at(TYPICAL_BATCH)
