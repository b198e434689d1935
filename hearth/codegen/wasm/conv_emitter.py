"""What every kernel with a convolution has: a function, operands, regions of scratch memory."""

from __future__ import annotations

from collections.abc import Sequence

from hearth.codegen.wasm.assembler import Operand, f32x4
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


class ConvEmitter:
    """A kernel function under construction, with regions of scratch memory."""

    def __init__(self, target: Target, kernel: Kernel, t: ConvTemplate,
                 regions: Sequence[int]) -> None:  # fmt: skip
        self.target, self.maths, self.t = target, target.maths, t
        self.regions = [-(-size // 4) * 4 for size in regions]  # elements
        self.f = new_function(kernel)
        self.batch, self.thread, self.threads, scratch, *self.pointers = parameters(self.f)
        self.a, self.b = self.pointers[t.a], self.pointers[t.b]
        self.images = Levels(self.f, Canonical(), no_values).dim(t.batch)
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

    def emit(self) -> None:
        """Writes the whole kernel."""
        raise NotImplementedError

    def finished(self) -> KernelFunction:
        self.emit()
        scratch = ELEMENT_BYTES * sum(self.regions)
        return KernelFunction(self.target.module.add(self.f), scratch, is_serial=False)


def weights_epilogue(maths: Maths, kernel: Kernel, elements: int) -> Epilogue:
    """Stores gradients of weights, some rows of output channels, from a block of all of a row."""
    where, stride = Index(), 1
    for axis in reversed(range(len(kernel.axes))):
        where = where + axis_of(kernel, axis) * stride
        stride *= kernel.axes[axis].static
    return Epilogue.of(maths, kernel, where, Dim.of(elements), (0,))
