"""Kernel -> kernel: what every emission wants done first; the meaning stays.

`spell` leaves only ops that WGSL can write; `merge_axes` makes one loop of neighbouring loops that
walk memory like one (so a map over [B, 64, 14, 14] has a single index and no division);
`split_axis` is its inverse, for the groups of a convolution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from hearth.codegen.wgsl.spelling import row
from hearth.ir.dim import Dim, Shape, product
from hearth.ir.dtype import FLOAT32, numpy_dtype
from hearth.ir.expr import const
from hearth.ir.index import Axis, FloorDiv, Index, Mod, Value, atom_index, axis, substitute
from hearth.ir.kernel import (
    Kernel,
    Stage,
    Store,
)
from hearth.ir.scalar import SCALAR_OPS, Apply, Const, Expr, apply, walk
from hearth.ir.walking import stage_indices, with_indices

ExprRule = Callable[[Expr], Expr]


def spell(kernel: Kernel) -> Kernel:
    """Expand what WGSL cannot write, and fold constants (WGSL refuses `1.0 / 0.0`)."""

    def spelling(_: Shape) -> Renaming:
        def rule(expr: Expr) -> Expr:
            if not isinstance(expr, Apply) or row(expr.op, expr.args[-1].dtype):
                return _divided(_folded(expr))
            expansion = SCALAR_OPS[expr.op].expansion
            assert expansion is not None, f"{expr.op}: neither spelled nor expandable"
            return names.expr(expansion(*expr.args))

        names = Renaming({}, rule)
        return names

    return map_kernel(kernel, spelling)


def merge_axes(kernel: Kernel) -> Kernel:
    """Merge neighbouring loops wherever every index walks them as one."""
    position = len(kernel.axes) - 1
    while position > 0:
        if _walks_as_one(kernel.stages, position - 1, kernel.axes[position - 1 : position + 1]):
            kernel = _merge_outer(kernel, position - 1)
        position -= 1
    stages = tuple(_merge_inner(stage, len(kernel.axes)) for stage in kernel.stages)
    return replace(kernel, stages=stages)


def split_axis(kernel: Kernel, position: int, parts: int) -> Kernel:
    """Replace an outer loop by two: `parts` times the rest."""
    extent = kernel.axes[position]
    inner = extent // parts
    axes = (*kernel.axes[:position], Dim.of(parts), inner, *kernel.axes[position + 1 :])

    def moved(own: Shape) -> Renaming:
        old = (*kernel.axes, *own)
        names = {i: axis(i + 1, old[i]) for i in range(position + 1, len(old))}
        names[position] = axis(position, parts) * inner + axis(position + 1, inner)
        return Renaming(names)

    return replace(map_kernel(kernel, moved), axes=axes)


class Renaming:
    """Rewrites loop variables, then applies a rule; what expressions share stays shared."""

    def __init__(self, axes: Mapping[int, Index], rule: ExprRule = lambda expr: expr) -> None:
        self.axes, self.rule = axes, rule
        self._done: dict[Expr, Expr] = {}

    def expr(self, root: Expr) -> Expr:
        for expr in walk([root]):
            if expr not in self._done:
                self._done[expr] = self.rule(self._renamed(expr))
        return self._done[root]

    def _renamed(self, expr: Expr) -> Expr:
        if isinstance(expr, Apply):
            return Apply(expr.dtype, expr.op, tuple(self._done[a] for a in expr.args))
        return with_indices(expr, self.index)

    def index(self, index: Index) -> Index:
        def rule(atom: Axis | FloorDiv | Mod | Value) -> Index | None:
            if isinstance(atom, Axis):
                return self.axes.get(atom.position)
            if isinstance(atom, Value):
                return atom_index(Value(self.expr(atom.expr), atom.extent))
            return None

        return substitute(index, rule)

    def stage(self, stage: Stage) -> Stage:
        if isinstance(stage, Store):
            return replace(stage, index=self.index(stage.index), value=self.expr(stage.value))
        reductions = tuple(replace(r, value=self.expr(r.value)) for r in stage.reductions)
        return replace(stage, reductions=reductions)


def map_kernel(kernel: Kernel, renaming: Callable[[Shape], Renaming]) -> Kernel:
    """Rewrite every stage; `renaming` gets the stage's own axes."""
    names = {stage.axes: renaming(stage.axes) for stage in kernel.stages}
    return replace(kernel, stages=tuple(names[s.axes].stage(s) for s in kernel.stages))


def _folded(expr: Expr) -> Expr:
    if not isinstance(expr, Apply) or not all(isinstance(a, Const) for a in expr.args):
        return expr
    values = [numpy_dtype(a.dtype).type(a.value) for a in expr.args if isinstance(a, Const)]
    with np.errstate(all="ignore"):
        value = SCALAR_OPS[expr.op].reference(*(np.asarray(v) for v in values))
    return Const(expr.dtype, np.asarray(value).astype(numpy_dtype(expr.dtype)).item())


def _divided(expr: Expr) -> Expr:
    """0 / x with the values that it has: drivers take it for 0 whatever x is."""
    if not isinstance(expr, Apply) or expr.op != "div" or expr.dtype != FLOAT32:
        return expr
    zero, x = expr.args
    if not isinstance(zero, Const) or zero.value != 0:
        return expr
    has_none = apply("or", apply("is_nan", x), apply("eq", x, 0.0))
    signed = apply("where", apply("lt", x, 0.0), const(-zero.value), const(zero.value))
    return apply("where", has_none, const(math.nan), signed)


def _walks_as_one(stages: Sequence[Stage], position: int, extents: Shape) -> bool:
    """Whether loop `position` and the next one could be one in every index."""
    return Dim.of(1) in extents or all(
        _is_linear_in_both(index, position, extents[1])
        for stage in stages
        for index in stage_indices(stage)
    )


def _is_linear_in_both(index: Index, position: int, extent: Dim) -> bool:
    strides = [Dim(), Dim()]
    for atom, coefficient in index.terms:
        match atom:
            case Axis():
                if position <= atom.position <= position + 1:
                    strides[atom.position - position] = coefficient
            case FloorDiv() | Mod():
                if not _is_linear_in_both(atom.numerator, position, extent):
                    return False
    return strides[0] == strides[1] * extent


def _merge_outer(kernel: Kernel, position: int) -> Kernel:
    first, second = kernel.axes[position : position + 2]
    axes = (*kernel.axes[:position], first * second, *kernel.axes[position + 2 :])

    merged = map_kernel(kernel, lambda own: _merging((*kernel.axes, *own), position))
    return replace(merged, axes=axes)


def _merge_inner(stage: Stage, outer: int) -> Stage:
    position = len(stage.axes) - 1
    while position > 0:
        extents = stage.axes[position - 1 : position + 1]
        if _walks_as_one([stage], outer + position - 1, extents):
            # Outer loops keep their numbers; their extents are not needed to rename the inner ones.
            names = _merging((*(Dim(),) * outer, *stage.axes), outer + position - 1)
            axes = (*stage.axes[: position - 1], product(extents), *stage.axes[position + 1 :])
            stage = replace(names.stage(stage), axes=axes)
        position -= 1
    return stage


def _merging(extents: Sequence[Dim], position: int) -> Renaming:
    names = {i: axis(i - 1, extents[i]) for i in range(position + 2, len(extents))}
    is_unit = extents[position + 1] == Dim.of(1)
    names[position] = axis(position, extents[position]) if is_unit else Index()
    names[position + 1] = axis(position, extents[position] * extents[position + 1])
    return Renaming(names)
