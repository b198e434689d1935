"""Weight gradients as sums over all positions of all images (see `conv.py`).

Threads divide the output channels or groups: each sum is computed by one thread.
"""

from __future__ import annotations

from hearth.codegen.wasm.assembler import Local, Operand, i32
from hearth.codegen.wasm.conv_emitter import ConvEmitter, weights_epilogue
from hearth.codegen.wasm.gemm import Block, blocks
from hearth.codegen.wasm.geometry import BLOCK_SUMS, Shape2d, weight_planes
from hearth.codegen.wasm.kernels import Target
from hearth.codegen.wasm.microkernels import PANEL
from hearth.codegen.wasm.planes import Planes, copy_planes, fill_table
from hearth.codegen.wasm.tiles import dot_block
from hearth.codegen.wasm.windows import window_dots
from hearth.ir.dtype import ELEMENT_BYTES
from hearth.ir.kernel import ConvTemplate, Kernel


class Weights(ConvEmitter):
    """Weight gradient: a block of output channels at a time, summed over all images."""

    def __init__(self, target: Target, kernel: Kernel, t: ConvTemplate, s: Shape2d) -> None:
        self.s = s
        self.channels, self.rows = s.in_channels // s.groups, s.out_channels // s.groups
        self.k = self.channels * len(s.taps)
        self.block = max(1, min(self.rows, BLOCK_SUMS // self.k))
        self.planes = weight_planes(s, self.block)
        self.gradient = Planes(s.result, (s.result[0], self.planes.width), ((0, 0),), (0, 0),
                               (1, 1), self.planes.block_rows)  # fmt: skip
        self.slack = -(-(self.planes.width + PANEL) // 4) * 4
        super().__init__(target, kernel, t, (
            self.block * self.k, self.channels * self.planes.size + self.slack,
            self.k, self.block * self.gradient.size,
        ))  # fmt: skip
        self.sums, self.copies, self.table, self.errors = self.region
        self.epilogue = weights_epilogue(self.maths, kernel, self.block * self.k)

    def emit(self) -> None:
        f, s = self.f, self.s
        self.clear_end(1, self.slack + 4)  # regions are rounded up by less than four elements
        taps = range(len(s.taps))
        fill_table(f, self.planes, self.table, self.channels, taps, self.copies)
        groups: Block = (i32(0), i32(s.groups))
        rows: Block = (i32(0), i32(self.rows))
        if s.groups > 1:
            groups = self.split(groups[1])
        else:
            rows = self.split(rows[1])
        is_single = self.block >= self.rows
        with (
            blocks(f, groups, 1, is_single=s.groups == 1) as (group, _),
            blocks(f, rows, self.block, is_single=is_single) as (row, count),
        ):
            first = f.local(group * self.rows + row)
            self._images(group, first, count)
            origin = self.sums - first * (self.k * ELEMENT_BYTES)
            ranges = [(first, first + count)]
            self.epilogue.call(f, self.batch, ranges, self.pointers, origin)

    def _images(self, group: Operand, first: Operand, count: Operand) -> None:
        f, s, p, g = self.f, self.s, self.planes, self.gradient
        image, result = s.image[0] * s.image[1], s.result[0] * s.result[1]
        x = f.local(self.b + group * (self.channels * image * ELEMENT_BYTES))
        errors = f.local(self.a + first * (result * ELEMENT_BYTES))
        adds = f.local(i32(0))
        with f.counted(self.images):
            rows = (i32(0), i32(s.result[0]))
            is_single = s.result[0] <= p.block_rows
            with blocks(f, rows, p.block_rows, is_single=is_single) as (row, _):
                for planes, to, source, channels in (
                    (p, self.copies, x, i32(self.channels)), (g, self.errors, errors, count)
                ):  # fmt: skip
                    f.perform(f.call(copy_planes(self.maths, planes), to, source, channels, row))
                self._multiply(count, adds)
                f.set(adds, i32(1))
            f.increment(x, s.in_channels * image * ELEMENT_BYTES)
            f.increment(errors, s.out_channels * result * ELEMENT_BYTES)

    def _multiply(self, count: Operand, adds: Local) -> None:
        f, p, size = self.f, self.planes, self.gradient.size
        if self.channels > 1:
            product = dot_block(self.maths, size * ELEMENT_BYTES, None, has_rest=size % 4 != 0)
            f.perform(f.call(product, self.errors, self.table, self.sums, count, self.k, size,
                             self.k * ELEMENT_BYTES, adds))  # fmt: skip
            return
        offsets = tuple(p.offset(tap) * ELEMENT_BYTES for tap in p.taps)
        product = window_dots(self.maths, offsets, size)
        f.perform(f.call(product, self.errors, self.copies, self.sums, count, adds))
