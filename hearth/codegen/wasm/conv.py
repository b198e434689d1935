"""Convolutions and their gradients as matrix products over padded planes (see `planes.py`).

    forward       sums[co, position] = w[co, ci·tap]        · x planes[ci·tap, position]
    input_grad    sums[ci, position] = turned w[ci, co·tap]  · g planes[co·tap, position]
    weight_grad   sums[co, ci·tap]  += g[co, position]       · x planes[ci·tap, position]

Values stay in PyTorch's NCHW layout.  The sums of a block of rows of one image (of a block of
channels, for weights) lie in scratch memory until the epilogue has stored them.  Threads divide
the images, and for weights the output channels or groups: each sum is computed by one thread.
"""

from __future__ import annotations

from collections.abc import Sequence

from hearth.codegen.wasm.assembler import Function, Local, Operand, i32, op, select
from hearth.codegen.wasm.conv_emitter import ConvEmitter, weights_epilogue
from hearth.codegen.wasm.epilogue import Epilogue, axis_of
from hearth.codegen.wasm.gemm import BLOCK_K, Block, blocks, equal_block
from hearth.codegen.wasm.geometry import BLOCK_SUMS, ImageProduct, Shape2d, weight_planes
from hearth.codegen.wasm.kernels import Target
from hearth.codegen.wasm.maths import Maths
from hearth.codegen.wasm.microkernels import PANEL, window_kernel
from hearth.codegen.wasm.opcodes import I32
from hearth.codegen.wasm.planes import Planes, clear, copy_planes, fill_table
from hearth.codegen.wasm.tiles import dot_block, splat_block
from hearth.ir.dim import Dim
from hearth.ir.dtype import ELEMENT_BYTES
from hearth.ir.index import Index, floor_div, mod
from hearth.ir.kernel import ConvTemplate, Kernel

MAXIMUM_WINDOW = 25  # taps of a depthwise convolution that are written out


class Images(ConvEmitter):
    """Forward and input gradient: one block of rows of one image at a time."""

    def __init__(self, target: Target, kernel: Kernel, t: ConvTemplate, s: Shape2d) -> None:
        self.is_forward = t.kind == "forward"
        self.product = (ImageProduct.of_forward if self.is_forward else ImageProduct.of_input_grad)(
            s
        )
        self.s, self.planes = s, self.product.planes
        self.sources = s.in_channels if self.is_forward else s.out_channels
        self.targets = s.out_channels if self.is_forward else s.in_channels
        self.channels, self.m = self.sources // s.groups, self.targets // s.groups
        self.pitch = -(-self.planes.block_positions // PANEL) * PANEL
        self.strip = self.targets * self.pitch  # the sums of one phase
        weights = self.targets * self.channels * len(s.taps)
        super().__init__(target, kernel, t, (
            self.strip * len(self.product.phases), self.sources * self.planes.size + PANEL,
            self.channels * len(s.taps), 0 if self.is_forward else weights,
        ))  # fmt: skip
        self.sums, self.copies, self.table, self.packed = self.region
        self.blocked = [0] + [axis for axis in s.axes[:1] if axis is not None]
        size = Dim.of(self.strip * len(self.product.phases))
        self.epilogue = Epilogue.of(self.maths, kernel, self._sum_index(kernel), size, self.blocked)

    def _sum_index(self, kernel: Kernel) -> Index:
        """Where the sum of a point lies: by phase, channel, row and column."""
        total = axis_of(kernel, 1) * self.pitch
        steps = (self.planes.width, 1)
        phase_steps = (self.product.stride[1] * self.strip, self.strip)
        for i, axis in enumerate(self.s.axes):
            at = axis_of(kernel, axis) if axis is not None else Index()
            at = at + self.product.padding[i]
            stride = self.product.stride[i]
            total = total + (floor_div(at, stride) - self.product.first[i]) * steps[i]
            total = total + mod(at, stride) * phase_steps[i]
        return total

    def emit(self) -> None:
        f, p = self.f, self.planes
        images = self.split(self.images)
        weights = self._prepare()
        image_bytes = self.sources * p.source[0] * p.source[1] * ELEMENT_BYTES
        with blocks(f, images, 1, is_single=False) as (image, _):
            source = f.local(self.a + image * image_bytes)
            rows = (i32(0), i32(p.positions[0]))
            is_single = p.positions[0] <= p.block_rows
            with blocks(f, rows, p.block_rows, is_single=is_single) as block:
                copy = copy_planes(self.maths, p)
                f.perform(f.call(copy, self.copies, source, self.sources, block[0]))
                for phase, taps in enumerate(self.product.phases):
                    if taps:
                        self._multiply(phase, weights[phase], block)
                self._store(image, block)

    def _prepare(self) -> list[Operand]:
        """Fills the tables and packs the weights of every phase; where these weights begin."""
        f, weights = self.f, []
        before = 0
        for phase, taps in enumerate(self.product.phases):
            fill_table(f, self.planes, self._table(phase), self.channels, taps, i32(0))
            if not taps:  # nothing reaches these results
                clear(f, self.sums + phase * self.strip * ELEMENT_BYTES, self.strip)
            packed = f.local(self.packed + before * ELEMENT_BYTES)
            if not self.is_forward:
                f.perform(f.call(_pack_weights(self.maths, self.s, taps), self.b, packed))
            weights.append(self.b if self.is_forward else packed)
            before += self.targets * self.channels * len(taps)
        return weights

    def _table(self, phase: int) -> Operand:
        before = sum(len(taps) for taps in self.product.phases[:phase])
        return self.table + self.channels * before * ELEMENT_BYTES

    def _multiply(self, phase: int, weights: Operand, block: Block) -> None:
        f, p = self.f, self.planes
        size = self.channels * len(self.product.phases[phase])
        positions = (block[1] - 1) * p.width + (p.positions[1] + PANEL - 1)
        panels = f.local(op("i32.div_u", positions, PANEL))
        a, b = f.local(weights), f.local(self.copies)
        c = f.local(self.sums + phase * self.strip * ELEMENT_BYTES)
        if self.channels == self.m == 1 and size <= MAXIMUM_WINDOW:
            self._multiply_windows(phase, a, b, c, panels)
            return
        with f.counted(i32(self.s.groups)):
            most = equal_block(size, BLOCK_K)
            is_single = size <= most
            with blocks(f, (i32(0), i32(size)), most, is_single=is_single) as (k0, length):
                row = size * ELEMENT_BYTES
                product = splat_block(self.maths, row, indirect=True)
                adds = i32(0) if is_single else op("i32.ne", k0, 0)
                f.perform(f.call(
                    product, a + k0 * ELEMENT_BYTES, b, c, self.m, panels, length, row,
                    ELEMENT_BYTES, PANEL * ELEMENT_BYTES, self._table(phase) + k0 * ELEMENT_BYTES,
                    self.pitch * ELEMENT_BYTES, adds,
                ))  # fmt: skip
            f.increment(a, self.m * size * ELEMENT_BYTES)
            f.increment(b, self.channels * p.size * ELEMENT_BYTES)
            f.increment(c, self.m * self.pitch * ELEMENT_BYTES)

    def _multiply_windows(self, phase: int, a: Local, b: Local, c: Local, panels: Local) -> None:
        """Depthwise: a row of weights and a plane for each result."""
        f, p = self.f, self.planes
        taps = self.product.phases[phase]
        offsets = tuple(p.offset(p.taps[tap]) * ELEMENT_BYTES for tap in taps)
        product = window_kernel(self.maths, offsets)
        with f.counted(i32(self.s.groups)):
            f.perform(f.call(product, a, b, c, panels))
            f.increment(a, len(taps) * ELEMENT_BYTES)
            f.increment(b, p.size * ELEMENT_BYTES)
            f.increment(c, self.pitch * ELEMENT_BYTES)

    def _store(self, image: Operand, block: Block) -> None:
        first, count = block
        ranges = [(image, image + 1)]
        if len(self.blocked) > 1:
            ranges.append((self._row(first), self._row(first + count)))
        origin = self.sums - first * (self.planes.width * ELEMENT_BYTES)
        self.epilogue.call(self.f, self.batch, ranges, self.pointers, origin)

    def _row(self, position: Operand) -> Operand:
        """The first row of the result that belongs to a row of positions, or the end."""
        p, f = self.product, self.f
        row = f.local((position + p.first[0]) * p.stride[0] - p.padding[0])
        f.set(row, select(op("i32.lt_s", row, 0), i32(0), row))
        extent = (self.s.result if self.is_forward else self.s.image)[0]
        return f.local(select(op("i32.lt_s", row, extent), row, i32(extent)))


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
                product = dot_block(
                    self.maths, g.size * ELEMENT_BYTES, None, has_rest=g.size % 4 != 0
                )
                f.perform(f.call(product, self.errors, self.table, self.sums, count, self.k,
                                 g.size, self.k * ELEMENT_BYTES, adds))  # fmt: skip
                f.set(adds, i32(1))
            f.increment(x, s.in_channels * image * ELEMENT_BYTES)
            f.increment(errors, s.out_channels * result * ELEMENT_BYTES)


def _pack_weights(maths: Maths, s: Shape2d, taps: Sequence[int]) -> Function:
    """Copies w[co, ci, tap] to [group, ci, co, tap], for some taps.  Parameters: from, to."""
    f = Function("pack_weights", (I32, I32))
    source, target = f.param(0), f.param(1)
    window = len(s.taps) * ELEMENT_BYTES
    inputs, outputs = s.in_channels // s.groups, s.out_channels // s.groups
    with f.counted(i32(s.groups)):
        column = f.local(source)
        with f.counted(i32(inputs)):
            at = f.local(column)
            with f.counted(i32(outputs)):
                for i, tap in enumerate(taps):
                    weight = op("f32.load", at, immediate=tap * ELEMENT_BYTES)
                    f.store("f32.store", target, weight, i * ELEMENT_BYTES)
                f.increment(at, inputs * window)
                f.increment(target, len(taps) * ELEMENT_BYTES)
            f.increment(column, window)
        f.increment(source, outputs * inputs * window)
    return maths.module.add(f)
