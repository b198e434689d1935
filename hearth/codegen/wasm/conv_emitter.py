"""What every kernel with a convolution has: a function, operands, regions of scratch memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hearth.codegen.wasm.assembler import Function, Operand, f32x4, i32, op, select
from hearth.codegen.wasm.canonical import Canonical
from hearth.codegen.wasm.epilogue import Epilogue, axis_of
from hearth.codegen.wasm.gemm import Block, no_values
from hearth.codegen.wasm.kernels import KernelFunction, Target, new_function, parameters, split
from hearth.codegen.wasm.levels import Levels
from hearth.codegen.wasm.maths import Maths
from hearth.codegen.wasm.threads import SCRATCH, meeting, part
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

    def divides_parts(self) -> Operand:
        """Whether threads divide parts of images: a few images would leave a thread waiting."""
        is_few = op("i32.lt_u", self.images, self.threads * EVEN_IMAGES)
        is_uneven = op("i32.ne", op("i32.rem_u", self.images, self.threads), 0)
        return op("i32.and", is_few, is_uneven)

    def share(self, extent: Operand, unit: int = 1, is_divided: Operand | None = None) -> Block:
        """Where this thread's share begins and how long it is, maybe 0; or the whole for each."""
        f, thread, threads = self.f, self.thread, self.threads
        if is_divided is not None:
            thread = f.local(select(is_divided, thread, i32(0)))
            threads = f.local(select(is_divided, threads, i32(1)))
        start, end = part(f, extent, unit, thread, threads)
        return start, f.local(end - start)

    def common(self, region: int) -> Operand:
        """A region of scratch memory that all threads of the kernel have in common."""
        start = sum(self.regions[:region]) * ELEMENT_BYTES
        return self.f.local(op("i32.load", i32(0), immediate=SCRATCH) + start)

    def meet(self) -> None:
        """Waits until all threads of the kernel are here."""
        self.f.perform(self.f.call(meeting(self.maths.module), self.threads))

    @contextmanager
    def blocks_of_channels(self, own: Block, most_own: Operand, size: int) -> Iterator[Block]:
        """Blocks of this thread's channels: as many as the thread has that has most, maybe empty.

        So that all threads can meet in each.
        """
        f = self.f
        at, left = f.local(own[0]), f.local(own[1])
        with f.counted(op("i32.div_u", most_own + (size - 1), size)):
            yield at, f.smaller(left, size)
            f.increment(at, size)
            f.increment(left, -size)
            f.set(left, f.larger(left, 0))

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
