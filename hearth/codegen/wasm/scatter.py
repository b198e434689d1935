"""Rows summed by their index (`codegen/scatter.py`), as additions instead of comparisons.

Each k in turn adds its elements to the one row that it names, so that the order of a sum is fixed.
Threads divide the elements of a row and never the rows: no two write to the same element, and the
work is even whatever the indices are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hearth.codegen.scatter import Scatter, coordinates_of
from hearth.codegen.wasm.assembler import Function, Operand, op
from hearth.codegen.wasm.canonical import Canonical, axis_index
from hearth.codegen.wasm.kernels import (
    VECTOR_UNIT,
    KernelFunction,
    Target,
    new_function,
    parameters,
    split,
)
from hearth.codegen.wasm.loops import LoopEmitter, LoopPlan, Range
from hearth.codegen.wasm.normalize import canonical_kernel, replace_accumulator
from hearth.ir.dim import Dim
from hearth.ir.expr import Const, apply
from hearth.ir.index import Axis, Index, Value, atom_index, linearize
from hearth.ir.kernel import Accumulate, Kernel, Load, Store

LEAST_SPLIT = 32  # elements of a row from which on threads divide them


def scatter_function(target: Target, kernel: Kernel, scatter: Scatter) -> KernelFunction:
    """Zeros, then the additions, then what the kernel stores of the sums."""
    f = new_function(kernel)
    _batch, thread, threads, _scratch, *pointers = parameters(f)
    last = len(kernel.axes) - 1
    is_split = last != scatter.row_axis and kernel.axes[last].is_at_least(LEAST_SPLIT)
    fixed = frozenset((last,) if last else ())
    zeros = LoopEmitter(f, target.maths, LoopPlan.of(_zeroing(kernel, scatter), fixed), pointers)
    if is_split:
        extent = zeros.levels.dim(kernel.axes[last])
        ranges = {last: split(f, extent, VECTOR_UNIT, thread, threads)}
    else:
        f.return_if(thread)
        ranges = {}
    zeros.ranges, zeros.aligned = ranges, frozenset(ranges)
    zeros.emit()
    _add(f, target, kernel, scatter, pointers, ranges)
    rest = _storing(kernel, scatter)
    if rest is not None:
        plan = LoopPlan.of(rest, fixed)
        LoopEmitter(f, target.maths, plan, pointers, ranges, frozenset(ranges)).emit()
    return KernelFunction(target.module.add(f), 0, not is_split)


def _zeroing(kernel: Kernel, scatter: Scatter) -> Kernel:
    zero = Const(scatter.value.dtype, 0)
    store = Store((), scatter.target, linearize(coordinates_of(kernel), kernel.axes), zero)
    return replace(kernel, stages=(store,), template=None)


def _storing(kernel: Kernel, scatter: Scatter) -> Kernel | None:
    """The stages after the sum, which is in the target; None where that is all."""
    sums = Load(scatter.value.dtype, scatter.target, linearize(coordinates_of(kernel), kernel.axes))
    stored = replace_accumulator(_with_access(kernel, scatter), 0, sums)
    own = [s for s in stored.stages if isinstance(s, Store) and s.param == scatter.target]
    others = [s for s in stored.stages if s not in own]
    if not others and own[0].value is sums:
        return None
    return replace(stored, stages=(*others, *own))  # the others still read the sums


def _with_access(kernel: Kernel, scatter: Scatter) -> Kernel:
    params = list(kernel.params)
    params[scatter.target] = replace(params[scatter.target], is_read=True)
    return replace(kernel, params=tuple(params))


def _add(f: Function, target: Target, kernel: Kernel, scatter: Scatter,
         pointers: Sequence[Operand], ranges: Mapping[int, Range]) -> None:  # fmt: skip
    first, rows = kernel.stages[0], kernel.axes[scatter.row_axis]
    assert isinstance(first, Accumulate)
    coords = coordinates_of(kernel)
    coords[scatter.row_axis] = atom_index(Value(scatter.row, rows))
    place = linearize(coords, kernel.axes)
    total = apply("add", Load(scatter.value.dtype, scatter.target, place), scatter.value)
    store = Store((), scatter.target, place, total)
    elements = [i for i in range(len(kernel.axes)) if i != scatter.row_axis]
    inner = [len(kernel.axes) + i for i in range(len(first.axes))]
    moved = {old: new for new, old in enumerate((*inner, *elements))}
    extents = (*first.axes, *(kernel.axes[i] for i in elements))

    def rule(old: Axis) -> Index:
        return axis_index(moved[old.position], old.extent)

    adding = replace(_with_access(kernel, scatter), stages=(store,), template=None)
    adding = canonical_kernel(adding, Canonical(), rule, extents)
    last = len(extents) - 1
    is_vector = bool(elements) and elements[-1] == len(kernel.axes) - 1
    plan = LoopPlan.of(adding, frozenset((last,)) if elements else frozenset())
    plan = replace(plan, vector_axis=last if is_vector else None)
    ranges = dict.fromkeys((last,), *ranges.values()) if ranges else {}
    emitter = _Adding(f, target.maths, plan, pointers, ranges, frozenset(ranges),
                      rows=rows, elements=len(elements))  # fmt: skip
    emitter.emit()


@dataclass(eq=False, kw_only=True)
class _Adding(LoopEmitter):
    """Loops over the inner points, and where one names a row, over the elements of that row."""

    rows: Dim
    elements: int

    def _nest(self, order: list[int]) -> None:
        if len(order) != self.elements:
            super()._nest(order)
            return
        (store,) = self.kernel.stages
        assert isinstance(store, Store)
        (row,) = (atom for atom, _ in store.index.terms if isinstance(atom, Value))
        # Unsigned, a negative row is larger than any.
        is_row = op("i32.lt_u", self.e.evaluate(row.expr), self.levels.dim(self.rows))
        with self.function.if_(is_row):
            super()._nest(order)
