"""Any kernel as loops: the meaning of every kernel on this target, and the epilogue of templates.

for outer axes (the vector axis last, four points at a time, then the rest one by one):
    for each stage: reduce, or store
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from hearth.codegen.wasm.assembler import Function, Operand, i32
from hearth.codegen.wasm.canonical import AxisRule, Canonical, axis_index, keep_axes
from hearth.codegen.wasm.elements import LANES, quarter_of
from hearth.codegen.wasm.expressions import Expressions
from hearth.codegen.wasm.maths import Maths
from hearth.codegen.wasm.normalize import (
    canonical_kernel,
    merge_axes,
    split_divided_axes,
)
from hearth.codegen.wasm.reductions import Running
from hearth.codegen.wasm.rows import KeptRows
from hearth.codegen.wasm.vectorize import is_vectorized, vector_axis
from hearth.ir.dim import Dim, Shape, product
from hearth.ir.dtype import INT32
from hearth.ir.expr import Expr
from hearth.ir.index import Axis, Index, linearize
from hearth.ir.kernel import Accumulate, IndexValue, Kernel, Stage, Store
from hearth.ir.walking import stage_expressions, walk_kernel

UNROLLED_POINTS = 32  # small windows are written out, so that their taps become constants
UNROLLED_EXPRESSIONS = 400

Range = tuple[Operand, Operand]
Body = Callable[[AxisRule], None]


@dataclass(frozen=True, eq=False)
class LoopPlan:
    """A kernel ready for emission: canonical, merged, its vector axis chosen."""

    kernel: Kernel
    canonical: Canonical
    vector_axis: int | None

    @staticmethod
    def of(kernel: Kernel, fixed: frozenset[int] = frozenset()) -> LoopPlan:
        """`fixed` axes keep their positions: their ranges come from outside."""
        canonical = Canonical()
        kernel = canonical_kernel(kernel, canonical, keep_axes, kernel.axes)
        if not fixed:
            kernel = split_divided_axes(kernel, canonical)
        kernel = merge_axes(kernel, canonical, fixed)
        return LoopPlan(kernel, canonical, vector_axis(kernel, canonical))


@dataclass(eq=False)
class LoopEmitter:
    """Emits the loops of one kernel into a function whose parameter 0 is the batch size."""

    function: Function
    maths: Maths
    plan: LoopPlan
    pointers: Sequence[Operand]
    ranges: Mapping[int, Range] = field(default_factory=dict)
    aligned: frozenset[int] = frozenset()  # axes whose ranges begin and end at multiples of 4
    scratch: Operand | None = None  # memory for rows that several stages need

    def __post_init__(self) -> None:
        kernel, canonical = self.plan.kernel, self.plan.canonical
        self.kernel = kernel
        self.e = Expressions(self.function, self.maths, canonical, kernel.params, self.pointers)
        self.levels = self.e.levels
        if self.scratch is not None and self.plan.vector_axis is None:
            self.e.kept, self.e.scratch = KeptRows.of(kernel, canonical), self.scratch

    def emit(self) -> None:
        vector = self.plan.vector_axis
        order = [a for a in range(len(self.kernel.axes)) if a != vector]
        self._nest([*order, vector] if vector is not None else order)

    # ------------------------------------------------------------ outer loops

    def _nest(self, order: list[int]) -> None:
        if not order:
            self._point()
            return
        axis, *rest = order
        start, end = self._range(axis)
        if axis != self.plan.vector_axis:
            with self.levels.loop(axis, start, end):
                self._nest(rest)
            return
        with self._vectorized(axis, start, end) as variable:
            self._point()
        if self._has_remainder(axis):
            with self.levels.loop(axis, variable, end):
                self._point()

    def _range(self, axis: int) -> Range:
        if axis in self.ranges:
            return self.ranges[axis]
        return self.levels.dim(Dim()), self.levels.dim(self.kernel.axes[axis])

    def _has_remainder(self, axis: int) -> bool:
        is_whole = is_multiple(self.kernel.axes[axis], LANES)
        return not is_whole or (axis in self.ranges and axis not in self.aligned)

    @contextmanager
    def _vectorized(self, axis: int, start: Operand, end: Operand) -> Iterator[Operand]:
        """A loop by four lanes; gives where the remainder begins."""
        self.e.vector_axis = axis
        self.e.is_aligned = axis not in self.ranges or axis in self.aligned
        quarter = quarter_of(axis) if self.e.is_aligned else None
        with self.levels.loop(axis, start, end, LANES, quarter) as variable:
            yield variable
        self.e.vector_axis = None

    def _point(self) -> None:
        self.e.point_depth = len(self.levels.path) - 1
        self.e.accumulators.clear()
        self.e.stored.clear()
        for number, stage in enumerate(self.kernel.stages):
            self.e.stage = number
            self.e.row = self._row(stage)
            if isinstance(stage, Accumulate):
                self._accumulate(stage)
            else:
                self._store(stage)
                self.e.stored[stage.param] = number

    # ------------------------------------------------------------ stages

    def _accumulate(self, stage: Accumulate) -> None:
        first = len(self.e.accumulators)
        if self._is_inner(stage):
            results = self._accumulate_row(stage)
        else:
            is_vector = self.e.vector_axis is not None
            running = self._start(stage, is_vector)
            self._inner_loops(stage, lambda axes: self._take(stage, running, axes, is_vector))
            results = [r.result() for r in running]
        for number, result in enumerate(results, first):
            self.e.accumulators[number] = self.levels.store(self.e.point_depth, result)

    def _accumulate_row(self, stage: Accumulate) -> list[Operand]:
        """Four elements of one reduction at a time, and what is left one by one."""
        main, tail = self._start(stage, True), self._start(stage, False)

        def body(is_vector: bool) -> Body:
            running = main if is_vector else tail
            return lambda axes: self._take(stage, running, axes, is_vector)

        self._row_loops(stage, body(True), body(False))
        return [m.result(t) for m, t in zip(main, tail, strict=True)]

    def _start(self, stage: Accumulate, is_vector: bool) -> list[Running]:
        count = product(stage.axes)
        return [
            Running.start(self.e.speller, r.kind, r.value.dtype, is_vector, count)
            for r in stage.reductions
        ]

    def _take(self, stage: Accumulate, running: Sequence[Running], axes: AxisRule,
              is_vector: bool) -> None:  # fmt: skip
        for reduction, own in zip(stage.reductions, running, strict=True):
            value = self._root(reduction.value, axes, is_vector)
            position = None
            if reduction.kind.startswith("arg"):
                position = self._position(stage, axes, is_vector)
            own.take(value, position)

    def _position(self, stage: Accumulate, axes: AxisRule, is_vector: bool) -> Operand:
        return self._root(IndexValue(INT32, self._row(stage)), axes, is_vector)

    def _row(self, stage: Stage) -> Index:
        """The number of a point of the stage's own loops."""
        first = len(self.kernel.axes)
        coords = [axis_index(first + i, extent) for i, extent in enumerate(stage.axes)]
        return linearize(coords, stage.axes)

    def _root(self, value: Expr, axes: AxisRule, is_vector: bool) -> Operand:
        expr = self.plan.canonical.expr(value, axes)
        result = self.e.evaluate(expr)
        return self.e.lanes(expr) if is_vector else result

    def _store(self, stage: Store) -> None:
        def body(is_vector: bool) -> Body:
            def write(axes: AxisRule) -> None:
                value = self._root(stage.value, axes, is_vector)
                index = self.plan.canonical.index(stage.index, axes)
                self.e.store(stage.param, index, value, stage.value.dtype)

            return write

        if self._is_inner(stage):
            self._row_loops(stage, body(True), body(False))
        else:
            self._inner_loops(stage, body(self.e.vector_axis is not None))

    # ------------------------------------------------------------ inner loops

    def _is_inner(self, stage: Accumulate | Store) -> bool:
        """Whether the lanes run along the stage's last axis."""
        first = len(self.kernel.axes)
        in_rows = self.plan.vector_axis is None
        return in_rows and is_vectorized(stage, first, self.plan.canonical)

    def _inner_loops(self, stage: Accumulate | Store, body: Body) -> None:
        if self._is_unrolled(stage):
            first = len(self.kernel.axes)
            for point in itertools.product(*(range(e.static) for e in stage.axes)):
                body(_fixing(dict(enumerate(point, first))))
        else:
            with self._open(len(self.kernel.axes), stage.axes):
                body(keep_axes)

    def _row_loops(self, stage: Accumulate | Store, main: Body, tail: Body) -> None:
        first = len(self.kernel.axes)
        last = first + len(stage.axes) - 1
        with self._open(first, stage.axes[:-1]):
            end = self.levels.dim(stage.axes[-1])
            with self._vectorized(last, i32(0), end) as variable:
                main(keep_axes)
            if not is_multiple(stage.axes[-1], LANES):
                with self.levels.loop(last, variable, end):
                    tail(keep_axes)

    @contextmanager
    def _open(self, first: int, extents: Shape) -> Iterator[None]:
        """Nested loops over axes from `first` on."""
        if not extents:
            yield
            return
        with (
            self.levels.loop(first, 0, self.levels.dim(extents[0])),
            self._open(first + 1, extents[1:]),
        ):
            yield

    def _is_unrolled(self, stage: Accumulate | Store) -> bool:
        count = product(stage.axes)
        if not count.is_static or not 1 <= count.static <= UNROLLED_POINTS:
            return False
        size = sum(1 for _ in walk_kernel(stage_expressions(stage)))
        return count.static * size <= UNROLLED_EXPRESSIONS


def is_multiple(dim: Dim, of: int) -> bool:
    """Whether a size is a multiple for every batch size."""
    return all(c % of == 0 for c in dim.coefficients)


def _fixing(values: Mapping[int, int]) -> AxisRule:
    def rule(axis: Axis) -> Index | None:
        value = values.get(axis.position)
        return None if value is None else Index.of(value)

    return rule
