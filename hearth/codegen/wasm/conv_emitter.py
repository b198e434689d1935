"""What every kernel with a convolution has: a function, operands, regions of scratch memory."""

from __future__ import annotations

from collections.abc import Sequence

from hearth.codegen.wasm.assembler import Function, Operand, f32x4, i32, op, select
from hearth.codegen.wasm.canonical import Canonical
from hearth.codegen.wasm.epilogue import Epilogue, axis_of
from hearth.codegen.wasm.gemm import Block, no_values
from hearth.codegen.wasm.kernels import KernelFunction, Target, new_function, parameters, split
from hearth.codegen.wasm.levels import Levels
from hearth.codegen.wasm.maths import Maths
from hearth.ir.dim import Dim
from hearth.ir.dtype import ELEMENT_BYTES
from hearth.ir.index import Index
from hearth.ir.kernel import ConvTemplate, Kernel

EVEN_IMAGES = 4  # per thread: with as many or more, one that is left over is not waited for


class ConvEmitter:
    """A kernel function under construction, with regions of scratch memory."""

    def __init__(self, target: Target, kernel: Kernel, t: ConvTemplate,
                 regions: Sequence[int]) -> None:  # fmt: skip
        self.target, self.maths, self.t = target, target.maths, t
        self.regions = [-(-size // 4) * 4 for size in regions]  # elements
        self.f = new_function(kernel)
        self.batch, self.thread, self.threads, scratch, *self.pointers = parameters(self.f)
        self.a, self.b = self.pointers[t.a], self.pointers[t.b]
        self.images = images_of(self.f, t)
        starts = [sum(self.regions[:i]) for i in range(len(regions))]
        self.region = [self.f.local(scratch + start * ELEMENT_BYTES) for start in starts]

    def clear_end(self, region: int, count: int) -> None:
        """Zeros in the last elements of a region: read beyond the planes, times zero."""
        f = self.f
        at = f.local(self.region[region] + (self.regions[region] - count) * ELEMENT_BYTES)
        for i in range(count // 4):
            f.store("v128.store", at, f32x4(0), 16 * i)

    def split(self, extent: Operand) -> Block:
        return split(self.f, extent, 1, self.thread, self.threads)

    def divide(self, parts: int, prefers_parts: Operand | None = None) -> tuple[Block, Block]:
        """This thread's images, and of as many parts of each image.

        Threads divide the images; or the parts, where a few images would leave a thread waiting.
        """
        f = self.f
        is_few = op("i32.lt_u", self.images, self.threads * EVEN_IMAGES)
        is_uneven = op("i32.ne", op("i32.rem_u", self.images, self.threads), 0)
        by_parts = op("i32.and", is_few, is_uneven)
        if prefers_parts is not None:
            by_parts = op("i32.or", by_parts, prefers_parts)
        by_parts = f.local(by_parts)

        def own(extent: Operand, is_whole: Operand) -> Block:
            thread = f.local(select(is_whole, i32(0), self.thread))
            return split(f, extent, 1, thread, f.local(select(is_whole, i32(1), self.threads)))

        return own(self.images, by_parts), own(i32(parts), op("i32.eqz", by_parts))

    def emit(self) -> None:
        """Writes the whole kernel."""
        raise NotImplementedError

    def finished(self) -> KernelFunction:
        self.emit()
        scratch = ELEMENT_BYTES * sum(self.regions)
        return KernelFunction(self.target.module.add(self.f), scratch, is_serial=False)


def images_of(f: Function, t: ConvTemplate) -> Operand:
    """How many images a kernel function gets."""
    return Levels(f, Canonical(), no_values).dim(t.batch)


def weights_epilogue(maths: Maths, kernel: Kernel, elements: int) -> Epilogue:
    """Stores gradients of weights, some rows of output channels, from a block of all of a row."""
    where, stride = Index(), 1
    for axis in reversed(range(len(kernel.axes))):
        where = where + axis_of(kernel, axis) * stride
        stride *= kernel.axes[axis].static
    return Epilogue.of(maths, kernel, where, Dim.of(elements), (0,))
