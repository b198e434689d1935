"""The gradient of a table: rows summed by their index, which a target may do by additions.

    result[row, ...] = sum over k of where(index[k] == row, value[k, ...], 0)

As loops, every row looks at every k.  This finds such kernels; how to add is the target's matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hearth.ir.dim import Dim
from hearth.ir.expr import Apply, Const, Expr
from hearth.ir.index import Axis, FloorDiv, Index, Mod, Value, axis, linearize
from hearth.ir.kernel import Accumulate, Accumulator, IndexValue, Kernel, Store
from hearth.ir.scalar import walk
from hearth.ir.walking import indices_of

LEAST_ROWS = 8
ACCUMULATED = -1  # stands for "an earlier reduction" among loop variables


@dataclass(frozen=True)
class Scatter:
    """What the sum of a kernel adds to which row."""

    row_axis: int
    row: Expr  # the index of the row, for a point of the inner loops
    value: Expr
    target: int  # the parameter that the sums are built in


def find_scatter(kernel: Kernel) -> Scatter | None:
    """The scatter that a kernel is, if it is one: one such sum, then stores of single points."""
    first, *stores = kernel.stages
    if not isinstance(first, Accumulate) or len(first.reductions) != 1:
        return None
    if any(not isinstance(stage, Store) or stage.axes for stage in stores):
        return None
    (sum_,) = first.reductions
    chosen = sum_.value
    if sum_.kind != "sum" or not isinstance(chosen, Apply) or chosen.op != "where":
        return None
    condition, value, otherwise = chosen.args
    if not isinstance(otherwise, Const) or otherwise.value != 0:
        return None
    if not isinstance(condition, Apply) or condition.op != "eq":
        return None
    target = _target(kernel, value.dtype)
    for a, b in (condition.args, condition.args[::-1]):
        position = _outer_axis(kernel, a)
        if position is not None and target is not None and _names_row(kernel, position, b, value):
            return Scatter(position, b, value, target)
    return None


def coordinates_of(kernel: Kernel) -> list[Index]:
    """The outer loop variables."""
    return [axis(i, extent) for i, extent in enumerate(kernel.axes)]


def _outer_axis(kernel: Kernel, expr: Expr) -> int | None:
    """The outer loop whose variable the expression is, if there are enough rows."""
    if not isinstance(expr, IndexValue) or len(expr.index.terms) != 1:
        return None
    ((atom, factor),) = expr.index.terms
    if not isinstance(atom, Axis) or factor != Dim.of(1) or expr.index.constant != Dim():
        return None
    is_outer = atom.position < len(kernel.axes) and atom.extent.is_at_least(LEAST_ROWS)
    return atom.position if is_outer else None


def _names_row(kernel: Kernel, position: int, row: Expr, value: Expr) -> bool:
    """Whether `row` depends on the inner loops alone, and the value not on the row."""
    row_axes, value_axes = frozenset(_axes_of(row)), frozenset(_axes_of(value))
    is_inner = bool(row_axes) and min(row_axes) >= len(kernel.axes)
    return is_inner and position not in value_axes and ACCUMULATED not in value_axes


def _axes_of(root: Expr) -> Iterator[int]:
    """The loop variables that an expression depends on, and ACCUMULATED."""
    for expr in walk([root]):
        if isinstance(expr, Accumulator):
            yield ACCUMULATED
        for index in indices_of(expr):
            yield from _axes_in(index)


def _axes_in(index: Index) -> Iterator[int]:
    for atom, _ in index.terms:
        match atom:
            case Axis():
                yield atom.position
            case FloorDiv() | Mod():
                yield from _axes_in(atom.numerator)
            case Value():
                yield from _axes_of(atom.expr)


def _target(kernel: Kernel, dtype: str) -> int | None:
    """A result in the order of the points that nothing reads."""
    point = linearize(coordinates_of(kernel), kernel.axes)
    for stage in kernel.stages[1:]:
        assert isinstance(stage, Store)
        param = kernel.params[stage.param]
        if stage.index == point and param.dtype == dtype and not param.is_read:
            return stage.param
    return None
