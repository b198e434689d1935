"""Any kernel as loops, with one or more threads per point (`layout.py` says how many).

One lane per point is a plain loop nest.  With more, each lane reduces every `lanes`-th element,
and the partial results meet in workgroup memory as a tree, or by shuffles of a subgroup: always in
the same order, so a result is reproducible.  Long sums are added in blocks: their error does not
grow with their length.

Barriers stand in uniform control flow: threads beyond the last point compute it again and store
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby

from hearth.codegen.wgsl.body import Body
from hearth.codegen.wgsl.coordinates import Coordinates, Flat
from hearth.codegen.wgsl.folds import Partial, add_values, declare, merge
from hearth.codegen.wgsl.layout import ENOUGH_THREADS, Layout, choose_layout
from hearth.codegen.wgsl.module import WgslKernel, Workgroups, assemble, workgroup_index
from hearth.codegen.wgsl.subgroups import SubgroupTree
from hearth.codegen.wgsl.term import Term
from hearth.codegen.wgsl.tree import Tree
from hearth.codegen.wgsl.values import evaluate, write_stores
from hearth.ir.dim import Dim, Shape, product
from hearth.ir.index import axis, linearize
from hearth.ir.kernel import Accumulate, Kernel, Store
from hearth.ir.scalar import Expr

BLOCK_ELEMENTS = 64  # of a long sum


def emit_loops(
    kernel: Kernel, enough_threads: int = ENOUGH_THREADS, *, has_subgroups: bool = False
) -> WgslKernel:
    """A module for any kernel; a sum is shared until there are `enough_threads`."""
    layout = choose_layout(kernel, enough_threads)
    workgroups = ((kernel.points, layout.points),)
    body = Body(kernel.params)
    loops = _Loops(kernel, body, layout, has_subgroups)
    loops.enter(workgroups)
    for _, stages in groupby(kernel.stages, key=_same_loops):
        loops.run(list(stages))
    lanes = "a thread" if layout.lanes == 1 else f"{layout.lanes} threads together"
    return assemble(kernel, body, layout.threads, workgroups, lanes)


def _same_loops(stage: Accumulate | Store) -> tuple[type, Shape | int]:
    """Neighbouring stores over the same axes share their loops; reductions stay apart."""
    return (Store, stage.axes) if isinstance(stage, Store) else (Accumulate, id(stage))


class _Loops:
    def __init__(self, kernel: Kernel, body: Body, layout: Layout, has_subgroups: bool) -> None:
        self.kernel, self.body, self.layout = kernel, body, layout
        self.outer = Flat(tuple(range(len(kernel.axes))), kernel.axes, Term("i"))
        self.accumulators: list[Term] = []
        kind = SubgroupTree if has_subgroups and not layout.by_point else Tree
        self.tree = kind(body, layout.threads)

    def enter(self, workgroups: Workgroups) -> None:
        """Which point this thread works on."""
        body, layout = self.body, self.layout
        points = body.dim(self.kernel.points).text
        if layout.lanes == 1:
            body.line(f"let i = (group.y * groups.x + group.x) * {layout.points}u + thread;")
            body.line(f"if (i >= {points}) {{ return; }}")
        else:
            workgroup_index(body, workgroups)
            near, far = f"thread % {layout.points}u", f"thread / {layout.points}u"
            if not layout.by_point:
                near, far = f"thread / {layout.lanes}u", f"thread % {layout.lanes}u"
            body.line(f"let lane = {far};")
            body.line(f"let slot = {near};")
            body.line(f"let point = workgroup * {layout.points}u + slot;")
            body.line(f"let i = min(point, {points} - 1u);")

    def run(self, stages: Sequence[Accumulate | Store]) -> None:
        first = stages[0]
        if isinstance(first, Store):
            self.store([s for s in stages if isinstance(s, Store)])
        elif self.layout.lanes == 1:
            self.accumulate(first)
        else:
            self.accumulate_together(first)

    def at(self, inner: list[Flat]) -> Coordinates:
        return self.body.coordinates([self.outer, *inner])

    def flat(self, shape: Shape, value: Term) -> Flat:
        """All inner loops of a stage as one."""
        first = len(self.kernel.axes)
        return Flat(tuple(range(first, first + len(shape))), shape, value)

    def nested(self, loops: Sequence[Term], shape: Shape) -> list[Flat]:
        """Inner loops one by one."""
        first = len(self.kernel.axes)
        return [Flat((first + i,), (shape[i],), loop) for i, loop in enumerate(loops)]

    # ------------------------------------------------------------ stores

    def store(self, stages: Sequence[Store]) -> None:
        with ExitStack() as stack:
            if self.layout.lanes > 1:
                lane = " && lane == 0u" if not stages[0].axes else ""
                points = self.body.dim(self.kernel.points).text
                stack.enter_context(self.body.block(f"if (point < {points}{lane})"))
            at = self.at(stack.enter_context(self.elements(stages[0].axes)))
            write_stores(self.body, stages, at, self.accumulators)

    @contextmanager
    def elements(self, shape: Shape) -> Iterator[list[Flat]]:
        """Loops over the inner axes of a store, shared by the lanes of a point."""
        with ExitStack() as stack:
            if self.layout.lanes > 1 and shape:
                limit, step = self.body.dim(product(shape)).text, self.layout.lanes
                j = stack.enter_context(self.body.range_loop("lane", limit, step))
                yield [self.flat(shape, j)]
            else:
                loops = [stack.enter_context(self.body.loop(extent)) for extent in shape]
                yield self.nested(loops, shape)

    # ------------------------------------------------------------ reductions

    def accumulate(self, stage: Accumulate) -> None:
        """One thread: a loop nest whose innermost loop has partial results of its own."""
        totals = declare(self.body, stage.reductions)
        if stage.axes:
            self.nest(stage, totals)
        else:
            self.add(stage, totals, [], Term("0u"))
        self.finish(totals)

    def nest(self, stage: Accumulate, totals: list[Partial]) -> None:
        *outer, last = stage.axes
        first = len(self.kernel.axes)
        with ExitStack() as stack:
            loops = [stack.enter_context(self.body.loop(extent)) for extent in outer]
            parts = declare(self.body, stage.reductions) if outer else totals

            def add(j: Term, into: list[Partial]) -> None:
                inner = self.nested([*loops, j], stage.axes)
                flat = linearize([axis(first + i, e) for i, e in enumerate(stage.axes)], stage.axes)
                self.add(stage, into, inner, self.body.index(flat, self.at(inner), _no_values))

            self.reduce_range(stage, parts, last, add)
            if outer:
                merge(self.body, totals, parts)

    def accumulate_together(self, stage: Accumulate) -> None:
        """All lanes of a point: every lane its share, then a tree in workgroup memory."""
        totals = declare(self.body, stage.reductions)

        def add(j: Term, into: list[Partial]) -> None:
            self.add(stage, into, [self.flat(stage.axes, j)], j)

        self.reduce_range(stage, totals, product(stage.axes), add)
        layout = self.layout
        stride = layout.points if layout.by_point else 1
        first = "slot" if layout.by_point else f"slot * {layout.lanes}u"
        results = self.tree.reduce(totals, layout.lanes, stride, first)
        self.accumulators += [Term(name, self.body.depth) for name in results]

    def reduce_range(
        self, stage: Accumulate, into: list[Partial], extent: Dim,
        add: Callable[[Term, list[Partial]], None],
    ) -> None:  # fmt: skip
        """The lane's share of 0..extent; what may be long goes in blocks."""
        body, lanes = self.body, self.layout.lanes
        start, limit = "lane" if lanes > 1 else "0u", body.dim(extent).text
        block = BLOCK_ELEMENTS * lanes
        if extent.is_static and extent.static <= 2 * block:
            with body.range_loop(start, limit, lanes) as j:
                add(j, into)
            return
        with body.range_loop(start, limit, block) as base:
            parts = declare(body, stage.reductions)
            end = body.let(Term(f"min({base.text} + {block}u, {limit})", base.depth), "end")
            with body.range_loop(base.text, end.text, lanes) as j:
                add(j, parts)
            merge(body, into, parts)

    def add(
        self, stage: Accumulate, into: list[Partial], inner: list[Flat], position: Term
    ) -> None:
        roots = [r.value for r in stage.reductions]
        values = evaluate(self.body, roots, self.at(inner), self.accumulators)
        add_values(self.body, into, values, position)

    def finish(self, totals: list[Partial]) -> None:
        self.accumulators += [Term(total.result, self.body.depth) for total in totals]


def _no_values(_: Expr) -> Term:
    raise AssertionError("a store's index holds no computed values")
