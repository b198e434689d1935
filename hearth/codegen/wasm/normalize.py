"""Kernels made ready for emission: canonical expressions, adjacent axes merged."""

from __future__ import annotations

from dataclasses import replace

from hearth.codegen.wasm.canonical import (
    AxisRule,
    Canonical,
    axis_index,
)
from hearth.ir.dim import Dim, Shape
from hearth.ir.expr import Expr, rewrite
from hearth.ir.index import Axis, FloorDiv, Index, Mod
from hearth.ir.kernel import Accumulator, Kernel, Stage, Store
from hearth.ir.walking import stage_indices

LEAST_PART = 8  # shorter loops cost more than the division


def canonical_kernel(kernel: Kernel, canonical: Canonical, axes: AxisRule,
                     outer: Shape) -> Kernel:  # fmt: skip
    """The kernel with canonical expressions and loop variables replaced."""
    stages: list[Stage] = []
    for stage in kernel.stages:
        if isinstance(stage, Store):
            value = canonical.expr(stage.value, axes)
            stages.append(replace(stage, value=value, index=canonical.index(stage.index, axes)))
        else:
            reductions = (replace(r, value=canonical.expr(r.value, axes)) for r in stage.reductions)
            stages.append(replace(stage, reductions=tuple(reductions)))
    return replace(kernel, axes=outer, stages=tuple(stages))


def merge_axes(kernel: Kernel, canonical: Canonical, fixed: frozenset[int]) -> Kernel:
    """Adjacent axes that every index walks as one become one; `fixed` axes stay as they are.

    A kernel over whole contiguous tensors becomes a single flat loop.
    """
    kernel = _drop_unit_axes(kernel, canonical, fixed)
    position = 0
    while position + 1 < len(kernel.axes):
        is_free = position > max(fixed, default=-1)  # a fixed axis keeps its position
        if is_free and all(_is_joint(i, position, kernel) for i in all_indices(kernel)):
            kernel = _merge_outer(kernel, canonical, position)
        else:
            position += 1
    for number in range(len(kernel.stages)):
        kernel = _drop_unit_inner_axes(kernel, canonical, number)
        kernel = _merge_inner(kernel, canonical, number)
    return kernel


def split_divided_axes(kernel: Kernel, canonical: Canonical) -> Kernel:
    """Outer axes i that occur as i // d and i % d become two: divisions leave the inner loops."""
    for position, extent in enumerate(kernel.axes):
        for divisor in _divisors(kernel, position):
            count = extent.divided_by(Dim.of(divisor))
            if count is not None:
                parts = (count, Dim.of(divisor))
                outer = (*kernel.axes[:position], *parts, *kernel.axes[position + 1 :])
                split = canonical_kernel(kernel, canonical, _splitting(position, parts), outer)
                return split_divided_axes(split, canonical)
    return kernel


def _divisors(kernel: Kernel, position: int) -> list[int]:
    found: dict[int, None] = {}
    for index in all_indices(kernel):
        for atom, _ in index.terms:
            if isinstance(atom, FloorDiv | Mod) and atom.divisor.is_static:
                terms = atom.numerator.terms
                is_axis = [isinstance(a, Axis) and a.position == position for a, _ in terms]
                is_whole = atom.numerator.constant == Dim() and terms[0][1] == Dim.of(1)
                if is_axis == [True] and is_whole and atom.divisor.static >= LEAST_PART:
                    found[atom.divisor.static] = None
    return list(found)


def _splitting(position: int, parts: Shape) -> AxisRule:
    """Turns an axis into two; later axes move up."""

    def rule(axis: Axis) -> Index | None:
        if axis.position < position:
            return None
        if axis.position > position:
            return axis_index(axis.position + 1, axis.extent)
        return axis_index(position, parts[0]) * parts[1] + axis_index(position + 1, parts[1])

    return rule


def _drop_unit_axes(kernel: Kernel, canonical: Canonical, fixed: frozenset[int]) -> Kernel:
    """Outer axes of extent 1 never occur in an index; they only disturb merging."""
    if fixed:
        return kernel
    kept = [i for i, extent in enumerate(kernel.axes) if extent != Dim.of(1)]
    if len(kept) == len(kernel.axes):
        return kernel
    moved = {old: new for new, old in enumerate(kept)}
    shift = len(kernel.axes) - len(kept)

    def rule(axis: Axis) -> Index:
        return axis_index(moved.get(axis.position, axis.position - shift), axis.extent)

    return canonical_kernel(kernel, canonical, rule, tuple(kernel.axes[i] for i in kept))


def _merge_outer(kernel: Kernel, canonical: Canonical, position: int) -> Kernel:
    extent = kernel.axes[position] * kernel.axes[position + 1]
    outer = (*kernel.axes[:position], extent, *kernel.axes[position + 2 :])
    return canonical_kernel(kernel, canonical, _joining(position, extent), outer)


def _joining(position: int, extent: Dim) -> AxisRule:
    """Turns position and position+1 into one axis; later axes move down."""

    def rule(axis: Axis) -> Index | None:
        if axis.position < position:
            return None
        if axis.position == position:
            return Index()
        if axis.position == position + 1:
            return axis_index(position, extent)
        return axis_index(axis.position - 1, axis.extent)

    return rule


def _merge_inner(kernel: Kernel, canonical: Canonical, number: int) -> Kernel:
    """Merge axes of one stage; the order of its elements stays (argmax counts them)."""
    stage = kernel.stages[number]
    first = len(kernel.axes)
    position = 0
    while position + 1 < len(stage.axes):
        at = first + position
        if not all(_is_joint(i, at, kernel, stage.axes) for i in stage_indices(stage)):
            position += 1
            continue
        extent = stage.axes[position] * stage.axes[position + 1]
        inner = (*stage.axes[:position], extent, *stage.axes[position + 2 :])
        stage = _moved(kernel, canonical, stage, _joining(at, extent), inner)
    return _with_stage(kernel, number, stage)


def _drop_unit_inner_axes(kernel: Kernel, canonical: Canonical, number: int) -> Kernel:
    stage, first = kernel.stages[number], len(kernel.axes)
    kept = [i for i, extent in enumerate(stage.axes) if extent != Dim.of(1)]
    if len(kept) == len(stage.axes):
        return kernel
    moved = {first + old: first + new for new, old in enumerate(kept)}

    def rule(axis: Axis) -> Index | None:
        return axis_index(moved[axis.position], axis.extent) if axis.position in moved else None

    inner = tuple(stage.axes[i] for i in kept)
    return _with_stage(kernel, number, _moved(kernel, canonical, stage, rule, inner))


def _moved(kernel: Kernel, canonical: Canonical, stage: Stage, rule: AxisRule,
           inner: Shape) -> Stage:  # fmt: skip
    only = replace(kernel, stages=(stage,))
    return replace(canonical_kernel(only, canonical, rule, kernel.axes).stages[0], axes=inner)


def _with_stage(kernel: Kernel, number: int, stage: Stage) -> Kernel:
    stages = (*kernel.stages[:number], stage, *kernel.stages[number + 1 :])
    return replace(kernel, stages=stages)


def _is_joint(index: Index, position: int, kernel: Kernel, inner: Shape = ()) -> bool:
    """Whether position and position+1 occur only as position*extent + (position+1)."""
    extent = (*kernel.axes, *inner)[position + 1]
    strides = {position: Dim(), position + 1: Dim()}
    for atom, coefficient in index.terms:
        if isinstance(atom, Axis) and atom.position in strides:
            strides[atom.position] = coefficient
        if isinstance(atom, FloorDiv | Mod) and not _is_joint(
            atom.numerator, position, kernel, inner
        ):
            return False
    return strides[position] == strides[position + 1] * extent


def all_indices(kernel: Kernel) -> list[Index]:
    return [index for stage in kernel.stages for index in stage_indices(stage)]


def replace_accumulator(kernel: Kernel, number: int, by: Expr) -> Kernel:
    """The kernel without stage 0, with its result read from elsewhere: what a template fuses."""

    def rule(expr: Expr) -> Expr:
        if isinstance(expr, Accumulator):
            return by if expr.number == number else expr
        return expr

    stages: list[Stage] = []
    for stage in kernel.stages[1:]:
        assert isinstance(stage, Store)
        stages.append(replace(stage, value=rewrite([stage.value], rule)[0]))
    return replace(kernel, stages=tuple(stages), template=None)
