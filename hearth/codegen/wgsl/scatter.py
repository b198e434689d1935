"""Rows summed by their index (`codegen/scatter.py`), as additions instead of comparisons.

A thread has one element of a row, of a share of the rows.  It goes through all that is added, in
order, and adds what names one of its rows: no two threads write to the same element, a sum has the
same order on every device, and there is no atomic.
"""

from __future__ import annotations

from collections.abc import Sequence

from hearth.codegen.scatter import Scatter
from hearth.codegen.wgsl.body import Body
from hearth.codegen.wgsl.coordinates import Coordinates, Flat
from hearth.codegen.wgsl.layout import THREADS, TYPICAL_BATCH
from hearth.codegen.wgsl.module import WgslKernel, assemble
from hearth.codegen.wgsl.term import Term
from hearth.codegen.wgsl.values import evaluate, write_stores
from hearth.ir.dim import product
from hearth.ir.dtype import FLOAT32
from hearth.ir.kernel import Accumulate, Accumulator, Kernel, Store

LEAST_ROWS = 8  # of a share: fewer are not worth another look at all that is added


def emit_scatter(kernel: Kernel, scatter: Scatter, enough_threads: int) -> WgslKernel:
    """A module for such a kernel; rows are shared out until there are enough threads."""
    return _Scatter(kernel, scatter, enough_threads).emit()


class _Scatter:
    def __init__(self, kernel: Kernel, scatter: Scatter, enough_threads: int) -> None:
        self.kernel, self.scatter, self.body = kernel, scatter, Body(kernel.params)
        self.others = tuple(i for i in range(len(kernel.axes)) if i != scatter.row_axis)
        self.rows = kernel.axes[scatter.row_axis]
        self.elements = product([kernel.axes[i] for i in self.others])
        wanted = enough_threads // self.elements.at(TYPICAL_BATCH)
        self.shares = max(1, min(wanted, self.rows.at(TYPICAL_BATCH) // LEAST_ROWS))
        (self.store,) = (
            s for s in kernel.stages if isinstance(s, Store) and s.param == scatter.target
        )

    def emit(self) -> WgslKernel:
        body, rows = self.body, self.body.dim(self.rows)
        threads = self.elements * self.shares
        body.line(f"let i = (group.y * groups.x + group.x) * {THREADS}u + thread;")
        body.line(f"if (i >= {body.dim(threads).text}) {{ return; }}")
        body.line(f"let element = i % {body.dim(self.elements).text};")
        body.line(f"let per_share = ({rows.operand} + {self.shares - 1}u) / {self.shares}u;")
        body.line(f"let first = min(i / {body.dim(self.elements).text} * per_share, {rows.text});")
        body.line(f"let last = min(first + per_share, {rows.text});")
        with body.range_loop("first", "last", 1) as row:
            zero = "0.0" if self.scatter.value.dtype == FLOAT32 else "0"
            body.line(f"{self.place(self.at(row))} = {zero};")
        self.add()
        self.write()
        ways = "each thread adds to its own rows"
        return assemble(self.kernel, body, THREADS, ((threads, THREADS),), ways)

    def add(self) -> None:
        """The loops over what is added; for other threads' rows nothing but the index is read."""
        first = self.kernel.stages[0]
        assert isinstance(first, Accumulate)
        self.nest(first, [])

    def nest(self, stage: Accumulate, loops: Sequence[Term]) -> None:
        body = self.body
        if len(loops) < len(stage.axes):
            with body.loop(stage.axes[len(loops)]) as loop:
                self.nest(stage, [*loops, loop])
            return
        outer = len(self.kernel.axes)
        inner = [Flat((outer + i,), (stage.axes[i],), loop) for i, loop in enumerate(loops)]
        (named,) = evaluate(body, [self.scatter.row], body.coordinates(inner))
        # Unsigned, a negative row is larger than any.
        row = body.let(Term(f"u32({named.text})", body.depth), "row")
        with body.block(f"if (({row.text} >= first) & ({row.text} < last))"):
            # What is added is read in here, for this thread's rows alone.
            here = [Flat(f.positions, f.shape, Term(f.value.text, body.depth)) for f in inner]
            at = self.at(Term(row.text, body.depth), here)
            (value,) = evaluate(body, [self.scatter.value], at)
            place = self.place(at)
            body.line(f"{place} = {place} + {value.operand};")

    def write(self) -> None:
        """What the kernel stores of the sums, where that is more than the sums themselves."""
        stores = [stage for stage in self.kernel.stages if isinstance(stage, Store)]
        if len(stores) == 1 and isinstance(self.store.value, Accumulator):
            return
        with self.body.range_loop("first", "last", 1) as row:
            at = self.at(row)
            total = self.body.let(Term(self.place(at), row.depth), "total")
            write_stores(self.body, stores, at, [total])

    def at(self, row: Term, inner: Sequence[Flat] = ()) -> Coordinates:
        shape = tuple(self.kernel.axes[i] for i in self.others)
        flats = [Flat((self.scatter.row_axis,), (self.rows,), row)]
        if self.others:
            flats.append(Flat(self.others, shape, Term("element")))
        return self.body.coordinates([*flats, *inner])

    def place(self, at: Coordinates) -> str:
        def none(_: object) -> Term:
            raise AssertionError("the index of a sum holds no computed values")

        return f"p{self.scatter.target}[{self.body.index(self.store.index, at, none).text}]"
