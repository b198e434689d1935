"""Convolutions and their gradients as matrix products over padded planes (see `planes.py`).

    forward       sums[co, position] = w[co, ci·tap]        · x planes[ci·tap, position]
    input_grad    sums[ci, position] = turned w[ci, co·tap]  · g planes[co·tap, position]
    weight_grad   sums[co, ci·tap]  += g[co, position]       · x planes[ci·tap, position]

Values stay in PyTorch's NCHW layout.  The sums of a block of rows of one image (of a block of
channels, for weights) lie in scratch memory until the epilogue has stored them.  Threads divide
the images, or the target channels or groups of a few images.  Weights: `conv_weights.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from hearth.codegen.wasm.assembler import Function, Local, Operand, i32, op
from hearth.codegen.wasm.conv_emitter import ConvEmitter
from hearth.codegen.wasm.epilogue import Epilogue, axis_of
from hearth.codegen.wasm.gemm import Block, blocks
from hearth.codegen.wasm.gemm_plan import BLOCK_K, equal_block
from hearth.codegen.wasm.geometry import ImageProduct, Shape2d
from hearth.codegen.wasm.kernels import Target
from hearth.codegen.wasm.maths import Maths
from hearth.codegen.wasm.microkernels import PANEL
from hearth.codegen.wasm.opcodes import I32
from hearth.codegen.wasm.planes import clear, copy_planes, fill_table
from hearth.codegen.wasm.tiles import splat_block
from hearth.codegen.wasm.windows import interleave, window_sums
from hearth.ir.dim import Dim
from hearth.ir.dtype import ELEMENT_BYTES
from hearth.ir.index import Index, floor_div, mod
from hearth.ir.kernel import ConvTemplate, Kernel

MAXIMUM_WINDOW = 1024  # taps of a depthwise convolution that are written out


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
        self.pairs = 2 if self.product.stride[1] == 2 else 1  # phases of a row as one
        sums = self.strip * len(self.product.phases)
        weights = self.targets * self.channels * len(s.taps)
        super().__init__(target, kernel, t, (
            sums, self.sources * self.planes.size + PANEL, self.channels * len(s.taps),
            0 if self.is_forward else weights, sums if self.pairs > 1 else 0,
        ))  # fmt: skip
        self.sums, self.copies, self.table, self.packed, paired = self.region
        self.results = paired if self.pairs > 1 else self.sums
        self.blocked = [0, 1] + [axis for axis in s.axes[:1] if axis is not None]
        self.epilogue = Epilogue.of(
            self.maths, kernel, self._sum_index(kernel), Dim.of(sums), self.blocked
        )

    def _sum_index(self, kernel: Kernel) -> Index:
        """Where the sum of a point lies: by phase, channel, row and column."""
        total = axis_of(kernel, 1) * (self.pitch * self.pairs)
        steps = (self.planes.width * self.pairs, 1)
        phase_steps = (self.product.stride[1] * self.strip, self.strip)
        for i, axis in enumerate(self.s.axes):
            at = axis_of(kernel, axis) if axis is not None else Index()
            at = at + self.product.padding[i]
            stride = self.product.stride[i]
            if i == 1 and self.pairs > 1:
                total = total + at - self.product.first[i] * stride
                continue
            total = total + (floor_div(at, stride) - self.product.first[i]) * steps[i]
            total = total + mod(at, stride) * phase_steps[i]
        return total

    def emit(self) -> None:
        f, p = self.f, self.planes
        s = self.s
        by_parts = f.local(self.divides_parts())
        images = self.share(self.images, is_divided=op("i32.eqz", by_parts))
        parts = self.share(i32(s.groups if s.groups > 1 else self.targets), is_divided=by_parts)
        f.return_if(op("i32.eqz", images[1]))
        f.return_if(op("i32.eqz", parts[1]))
        weights = self._prepare()
        image_bytes = self.sources * p.source[0] * p.source[1] * ELEMENT_BYTES
        end = f.local(images[0] + images[1])
        with blocks(f, (images[0], end), 1, is_single=False) as (image, _):
            source = f.local(self.a + image * image_bytes)
            rows = (i32(0), i32(p.positions[0]))
            is_single = p.positions[0] <= p.block_rows
            with blocks(f, rows, p.block_rows, is_single=is_single) as block:
                self._copy(source, block, parts)
                for phase, taps in enumerate(self.product.phases):
                    if taps:
                        self._multiply(phase, weights[phase], block, parts)
                if self.pairs > 1:
                    self._interleave(parts)
                self._store(image, block, parts)

    def _copy(self, source: Operand, block: Block, parts: Block) -> None:
        f, p, to, count = self.f, self.planes, self.copies, i32(self.sources)
        if self.s.groups > 1:
            first, count = (f.local(part * self.channels) for part in parts)
            source = source + first * (p.source[0] * p.source[1] * ELEMENT_BYTES)
            to = f.local(to + first * (p.size * ELEMENT_BYTES))
        f.perform(f.call(copy_planes(self.maths, p), to, source, count, block[0]))

    def _interleave(self, parts: Block) -> None:
        """The sums of each two phases of a row as those of neighbours."""
        f, strip = self.f, self.strip * ELEMENT_BYTES
        per_part = (self.m if self.s.groups > 1 else 1) * self.pitch
        begin = f.local(parts[0] * (per_part * ELEMENT_BYTES))
        panels = f.local(parts[1] * (per_part // PANEL))
        for row in range(0, len(self.product.phases), 2):
            even = f.local(self.sums + begin + row * strip)
            to = self.results + begin * 2 + row * strip
            f.perform(f.call(interleave(self.maths), even, even + strip, to, panels))

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

    def _multiply(self, phase: int, weights: Operand, block: Block, parts: Block) -> None:
        f, p, (first, count) = self.f, self.planes, parts
        size = self.channels * len(self.product.phases[phase])
        positions = (block[1] - 1) * p.width + (p.positions[1] + PANEL - 1)
        panels = f.local(op("i32.div_u", positions, PANEL))
        groups, m, b = i32(1), count, f.local(self.copies)
        rows = self.m if self.s.groups > 1 else 1
        if self.s.groups > 1:
            groups, m = count, i32(self.m)
            f.increment(b, first * (self.channels * p.size * ELEMENT_BYTES))
        a = f.local(weights + first * (rows * size * ELEMENT_BYTES))
        strip = self.sums + phase * self.strip * ELEMENT_BYTES
        c = f.local(strip + first * (rows * self.pitch * ELEMENT_BYTES))
        if self.channels == self.m == 1 and size <= MAXIMUM_WINDOW:
            self._multiply_windows(phase, a, b, c, panels, groups)
            return
        with f.counted(groups):
            most = equal_block(size, BLOCK_K)
            is_single = size <= most
            with blocks(f, (i32(0), i32(size)), most, is_single=is_single) as (k0, length):
                row = size * ELEMENT_BYTES
                product = splat_block(self.maths, row, indirect=True)
                adds = i32(0) if is_single else op("i32.ne", k0, 0)
                f.perform(f.call(
                    product, a + k0 * ELEMENT_BYTES, b, c, m, panels, length, row,
                    ELEMENT_BYTES, PANEL * ELEMENT_BYTES, self._table(phase) + k0 * ELEMENT_BYTES,
                    self.pitch * ELEMENT_BYTES, adds,
                ))  # fmt: skip
            f.increment(a, self.m * size * ELEMENT_BYTES)
            f.increment(b, self.channels * p.size * ELEMENT_BYTES)
            f.increment(c, self.m * self.pitch * ELEMENT_BYTES)

    def _multiply_windows(self, phase: int, a: Local, b: Local, c: Local, panels: Local,
                          groups: Operand) -> None:  # fmt: skip
        """Depthwise: a row of weights and a plane for each result."""
        f, p = self.f, self.planes
        taps = self.product.phases[phase]
        offsets = tuple(p.offset(p.taps[tap]) * ELEMENT_BYTES for tap in taps)
        product = window_sums(self.maths, offsets)
        with f.counted(groups):
            f.perform(f.call(product, a, b, c, panels))
            f.increment(a, len(taps) * ELEMENT_BYTES)
            f.increment(b, p.size * ELEMENT_BYTES)
            f.increment(c, self.pitch * ELEMENT_BYTES)

    def _store(self, image: Operand, block: Block, parts: Block) -> None:
        first, count = block
        rows = self.m if self.s.groups > 1 else 1
        ranges = [(image, image + 1), (parts[0] * rows, (parts[0] + parts[1]) * rows)]
        if len(self.blocked) > 2:
            ranges.append((self._row(first), self._row(first + count)))
        origin = self.results - first * (self.planes.width * self.pairs * ELEMENT_BYTES)
        self.epilogue.call(self.f, self.batch, ranges, self.pointers, origin)

    def _row(self, position: Operand) -> Operand:
        """The first row of the result that belongs to a row of positions, or the end."""
        p, f = self.product, self.f
        row = f.larger((position + p.first[0]) * p.stride[0] - p.padding[0], 0)
        return f.smaller(row, (self.s.result if self.is_forward else self.s.image)[0])


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
