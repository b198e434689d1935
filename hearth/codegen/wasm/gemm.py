"""Matrix products: blocks of the result in scratch memory, then the epilogue on each block.

    for each batch item, block of columns, block of rows:
        for each block of k:   pack what needs it, then all tiles
        epilogue

Threads divide the batch, the rows, or, where rows are few, the columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hearth.codegen.wasm.assembler import Function, Local, Operand, i32, i32x4, op
from hearth.codegen.wasm.canonical import Canonical
from hearth.codegen.wasm.epilogue import Epilogue, axis_of, flatten_leading
from hearth.codegen.wasm.gemm_plan import MANY_ROWS, MANY_WEIGHTS, GemmPlan
from hearth.codegen.wasm.kernels import KernelFunction, Target, new_function, parameters, split
from hearth.codegen.wasm.levels import Levels
from hearth.codegen.wasm.microkernels import PANEL
from hearth.codegen.wasm.module import Module
from hearth.codegen.wasm.opcodes import I32
from hearth.codegen.wasm.packing import ROW_BYTES, pack_panels
from hearth.codegen.wasm.tiles import dot_block, pack_rows, splat_block
from hearth.codegen.wasm.vectorize import TYPICAL_BATCH
from hearth.ir.dim import Dim
from hearth.ir.dtype import ELEMENT_BYTES
from hearth.ir.kernel import DotTemplate, Kernel

Block = tuple[Operand, Operand]  # where it begins, how long it is

SERIAL_PRODUCTS = 1 << 16


def gemm_function(target: Target, kernel: Kernel, template: DotTemplate) -> KernelFunction:
    """The kernel as a blocked product; its stages after the sum become the epilogue."""
    plan = GemmPlan.of(kernel, template)
    few = _planned(target, kernel, template, plan)
    weights = template.n * template.k
    if not plan.is_dot or template.m.is_static or weights.at(TYPICAL_BATCH) < MANY_WEIGHTS:
        return few
    many = _planned(target, kernel, template, GemmPlan.of(kernel, template, MANY_ROWS))
    f = new_function(kernel)
    arguments = parameters(f)
    rows = Levels(f, Canonical(), no_values).dim(template.m)
    with f.if_(op("i32.ge_s", rows, MANY_ROWS)):
        f.perform(f.call(many.function, *arguments))
        f.else_()
        f.perform(f.call(few.function, *arguments))
    scratch = max(few.scratch_bytes, many.scratch_bytes)
    return KernelFunction(target.module.add(f), scratch, few.is_serial)


def _planned(target: Target, kernel: Kernel, template: DotTemplate,
             plan: GemmPlan) -> KernelFunction:  # fmt: skip
    emitter = _Emitter(target, kernel, template, plan)
    is_serial = emitter.emit()
    scratch = ELEMENT_BYTES * sum(plan.scratch_elements)
    return KernelFunction(target.module.add(emitter.f), scratch, is_serial)


class _Emitter:
    def __init__(self, target: Target, kernel: Kernel, template: DotTemplate,
                 plan: GemmPlan) -> None:  # fmt: skip
        self.target, self.maths, self.plan = target, target.maths, plan
        self.f = new_function(kernel)
        self.batch, self.thread, self.threads, scratch, *self.pointers = parameters(self.f)
        self.a, self.b = self.pointers[template.a], self.pointers[template.b]
        self.levels = Levels(self.f, Canonical(), no_values)
        for size in (plan.m, plan.n, plan.k):  # computed once, before any loop or condition
            self.levels.dim(size)
        for size in (plan.m, plan.n, plan.k, plan.m * plan.k, plan.k * plan.n):
            self._bytes(size)
        sums, packed_a, _ = plan.scratch_elements
        self.sums = scratch
        self.packed_a = self.f.local(scratch + sums * ELEMENT_BYTES)
        self.packed_b = self.f.local(scratch + (sums + packed_a) * ELEMENT_BYTES)
        self.epilogue: Epilogue | None = None
        if plan.output is None:
            flat = flatten_leading(kernel, len(kernel.axes) - 2, plan.batch)
            where = axis_of(flat, 1) * plan.block_n + axis_of(flat, 2)
            size = Dim.of(plan.block_m * plan.block_n)
            self.epilogue = Epilogue.of(self.maths, flat, where, size, (0, 1, 2), aligned=(2,))

    def emit(self) -> bool:
        """Emits everything; whether only thread 0 works."""
        p, f = self.plan, self.f
        items: Block = (i32(0), self.levels.dim(p.batch))
        rows: Block = (i32(0), self.levels.dim(p.m))
        columns: Block = (i32(0), self.levels.dim(p.n))
        sizes = [d.at(TYPICAL_BATCH) for d in (p.batch, p.m, p.n)]
        products = sizes[0] * sizes[1] * sizes[2] * p.k.at(TYPICAL_BATCH)
        is_serial = products < SERIAL_PRODUCTS
        if is_serial:
            f.return_if(self.thread)
        elif sizes[0] >= 4:
            items = split(f, items[1], 1, self.thread, self.threads)
        elif sizes[1] >= 24 or sizes[2] < 64:
            rows = split(f, rows[1], 1, self.thread, self.threads)
        else:
            columns = split(f, columns[1], PANEL, self.thread, self.threads)
        self._items(items, rows, columns)
        return is_serial

    def _items(self, items: Block, rows: Block, columns: Block) -> None:
        p, f = self.plan, self.f
        with blocks(f, items, 1, is_single=p.batch == Dim.of(1)) as (item, _):
            a = f.local(self.a + item * self._bytes(p.m * p.k))
            b = f.local(self.b + item * self._bytes(p.k * p.n))
            with blocks(f, columns, p.block_n, is_single=p.has_single_n) as column_block:
                if p.packs_b_ahead:
                    self._pack_b(b, column_block, (i32(0), i32(p.k.static)))
                with blocks(f, rows, p.block_m, is_single=_fits(p.m, p.block_m)) as row_block:
                    self._block(item, a, b, row_block, column_block)
                    self._store(item, row_block, column_block)

    def _block(self, item: Operand, a: Operand, b: Operand, rows: Block, columns: Block) -> None:
        p, f = self.plan, self.f
        c, c_step = self._result(item, rows, columns)
        if p.triangular.result:
            columns = self._needed(rows, columns, c, c_step)
        begin, end = needed_sum(f, p, rows, columns, self.levels.dim(p.k))
        with blocks(f, (begin, end), p.block_k, is_single=p.has_single_k, is_aligned=True) as ks:
            adds = f.local(op("i32.ne", ks[0], begin) if not p.has_single_k else i32(0))
            if p.is_dot:
                self._dot(a, b, c, c_step, rows, columns, ks, adds)
            else:
                self._splat(a, b, c, c_step, rows, columns, ks, adds)

    def _needed(self, rows: Block, columns: Block, c: Operand, c_step: Operand) -> Block:
        """The columns up to the diagonal, in panels; beyond, the sums are zero."""
        f, (begin, count) = self.f, columns
        panels = op("i32.div_u", rows[0] + rows[1] + (PANEL - 1), PANEL) * PANEL
        needed = f.larger(f.smaller(panels - begin, count), 0)
        zeros = fill_zeros(self.target.module)
        f.perform(f.call(zeros, c + needed * ELEMENT_BYTES, rows[1], count - needed, c_step))
        return begin, needed

    def _result(self, item: Operand, rows: Block, columns: Block) -> tuple[Local, Operand]:
        p, f = self.plan, self.f
        if p.output is None:
            return f.local(self.sums), i32(p.block_n * ELEMENT_BYTES)
        row = item * self.levels.dim(p.m) + rows[0]
        element = row * self.levels.dim(p.n) + columns[0]
        return f.local(self.pointers[p.output] + element * ELEMENT_BYTES), self._bytes(p.n)

    def _store(self, item: Operand, rows: Block, columns: Block) -> None:
        if self.epilogue is None:
            return
        f, p = self.f, self.plan
        ranges = [(item, item + 1), *((at, at + length) for at, length in (rows, columns))]
        # The epilogue counts rows and columns from the start of the whole matrix.
        origin = self.sums - (rows[0] * p.block_n + columns[0]) * ELEMENT_BYTES
        self.epilogue.call(f, self.batch, ranges, self.pointers, origin)

    def _dot(self, a: Operand, b: Operand, c: Operand, c_step: Operand, rows: Block,
             columns: Block, ks: Block, adds: Operand) -> None:  # fmt: skip
        size = self.plan.k.static
        stride = size * ELEMENT_BYTES
        block = dot_block(self.maths, stride, stride, has_rest=size % 4 != 0)
        left = a + (rows[0] * size + ks[0]) * ELEMENT_BYTES
        right = b + (columns[0] * size + ks[0]) * ELEMENT_BYTES
        arguments = (left, right, c, rows[1], columns[1], ks[1], c_step, adds)
        self.f.perform(self.f.call(block, *arguments))

    def _splat(self, a: Operand, b: Operand, c: Operand, c_step: Operand, rows: Block,
               columns: Block, ks: Block, adds: Operand) -> None:  # fmt: skip
        p, f = self.plan, self.f
        row_step, a_step = self._bytes(p.k), i32(ELEMENT_BYTES)
        if p.transpose_a:
            row_step, a_step = i32(ELEMENT_BYTES), self._bytes(p.m)
        left = f.local(a + rows[0] * row_step + ks[0] * a_step)
        if p.packs_a:
            pack = pack_rows(self.maths)
            f.perform(f.call(pack, left, self.packed_a, rows[1], ks[1], row_step, a_step))
            left = f.local(self.packed_a)
        block = splat_block(self.maths, None if p.packs_a else row_step.constant)

        def multiply(right: Operand, target: Operand, panels: Operand, panel_step: Operand,
                     b_step: Operand) -> None:  # fmt: skip
            f.perform(f.call(block, left, right, target, rows[1], panels, ks[1], row_step, a_step,
                             panel_step, b_step, c_step, adds))  # fmt: skip

        self._panels(b, c, columns, ks, multiply)

    def _panels(self, b: Operand, c: Operand, columns: Block, ks: Block,
                multiply: Callable[..., None]) -> None:  # fmt: skip
        """All panels of B: packed ahead, as they lie, or packed one by one."""
        p, f, row = self.plan, self.f, i32(ROW_BYTES)
        if p.packs_b_ahead:
            panels = op("i32.div_u", columns[1] + (PANEL - 1), PANEL)
            right = f.local(self.packed_b + ks[0] * ROW_BYTES)
            multiply(right, c, panels, i32(p.k.static * ROW_BYTES), row)
            return
        at, target, left = f.local(columns[0]), f.local(c), f.local(columns[1])
        if not p.packs_b:
            panels = f.local(op("i32.div_u", left, PANEL))
            step = self._bytes(p.n)
            right = f.local(b + ks[0] * step + at * ELEMENT_BYTES)
            multiply(right, target, panels, row, step)
            if all(x % PANEL == 0 for x in p.n.coefficients):
                return
            f.increment(at, panels * PANEL)
            f.increment(target, panels * ROW_BYTES)
            f.increment(left, panels * -PANEL)
        with f.if_(op("i32.gt_s", left, 0)), f.loop():
            self._pack_b(b, (at, f.smaller(left, PANEL)), ks)
            multiply(self.packed_b, target, i32(1), row, row)
            f.increment(at, PANEL)
            f.increment(target, ROW_BYTES)
            f.increment(left, -PANEL)
            f.repeat_if(op("i32.gt_s", left, 0))

    def _pack_b(self, b: Operand, columns: Block, ks: Block) -> None:
        p = self.plan
        k_step, column_step = self._bytes(p.n), i32(ELEMENT_BYTES)
        if p.transpose_b:
            k_step, column_step = i32(ELEMENT_BYTES), self._bytes(p.k)
        first = b + ks[0] * k_step + columns[0] * column_step
        pack = pack_panels(self.maths)
        arguments = (first, self.packed_b, ks[1], columns[1], k_step, column_step)
        self.f.perform(self.f.call(pack, *arguments))

    def _bytes(self, size: Dim) -> Operand:
        return self.levels.dim(size * ELEMENT_BYTES)


def needed_sum(f: Function, plan: GemmPlan, rows: Block, columns: Block,
               size: Operand) -> Block:  # fmt: skip
    """Where the sums of a block begin and end: what is left out has a factor of zero."""
    begin, end, lower = i32(0), size, plan.triangular
    if lower.a and plan.transpose_a:
        begin = f.local(rows[0])
    elif lower.a:
        end = f.local(rows[0] + rows[1])
    if lower.b and not plan.transpose_b and not lower.a:
        begin = f.local(columns[0])
    elif lower.b and plan.transpose_b and not lower.a:
        end = f.local(columns[0] + columns[1])
    return begin, end


def fill_zeros(module: Module) -> Function:
    """Zeros in a part of a matrix.  Parameters: its address, rows, columns, bytes of a row."""
    f = Function("fill_zeros", (I32,) * 4)
    address, rows, columns, row_bytes = (f.param(i) for i in range(4))
    f.return_if(op("i32.le_s", columns, 0))
    with f.counted(rows):
        at, left = f.local(address), f.local(columns)
        with f.loop():
            f.store("v128.store", at, i32x4(0), 0)
            f.store("v128.store", at, i32x4(0), 16)
            f.increment(at, PANEL * ELEMENT_BYTES)
            f.increment(left, -PANEL)
            f.repeat_if(op("i32.gt_s", left, 0))
        f.increment(address, row_bytes)
    return module.add(f)


@contextmanager
def blocks(f: Function, whole: Block, size: int, *, is_single: bool,
           is_aligned: bool = False) -> Iterator[Block]:  # fmt: skip
    """Divides [begin, end) into blocks; `is_single` where it is known to be one.

    With `is_aligned` they begin at multiples of the size, but for the first.
    """
    begin, end = whole
    if is_single:
        yield begin, f.local(end - begin)
        return
    at = f.local(begin)
    with f.loop():
        most = i32(size) - op("i32.rem_u", at, size) if is_aligned else i32(size)
        length = f.smaller(end - at, most)
        yield at, length
        f.increment(at, length)
        f.repeat_if(op("i32.lt_s", at, end))


def _fits(extent: Dim, size: int) -> bool:
    return Dim.of(size).is_at_least(extent)


def no_values(*_: object) -> Operand:
    raise AssertionError("sizes gather nothing")
