"""Kernels made ready for emission: ops expanded, equal expressions shared, adjacent axes merged.

Expressions of a kernel are rebuilt by a `Canonical`, which returns one object for equal structure;
later stages may then key what they computed by identity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from hearth.codegen.wasm.spelling import is_spelled
from hearth.ir.dim import Dim, Shape
from hearth.ir.expr import Apply, BatchValue, Const, Expr, rewrite, walk
from hearth.ir.index import Atom, Axis, FloorDiv, Index, Mod, Value, is_in_range, substitute
from hearth.ir.kernel import (
    Accumulator,
    Guard,
    IndexValue,
    InRange,
    Kernel,
    Load,
    Stage,
    Store,
)
from hearth.ir.scalar import SCALAR_OPS

ACCUMULATOR = -1  # stands for "an earlier reduction" in a set of axes
KEPT = ("random",)  # spelled where its index is known to be aligned
AxisRule = Callable[[Axis], Index | None]


def keep_axes(axis: Axis) -> Index | None:
    return None


def axis_index(position: int, extent: Dim) -> Index:
    return Index(((Axis(position, extent), Dim.of(1)),))


class Canonical:
    """Rebuilds expressions so that equal ones are the same object."""

    def __init__(self) -> None:
        self._known: dict[Any, Expr] = {}
        self._axes: dict[int, frozenset[int]] = {}
        self._kept: list[Expr] = []  # sources stay alive: their ids are keys

    def expr(self, expr: Expr, axes: AxisRule = keep_axes) -> Expr:
        """The canonical form; `axes` may replace loop variables."""
        done: dict[int, Expr] = {}
        for sub in walk([expr]):  # operands first, so that deep expressions do not recurse
            self.axes_of(self._rebuild(sub, axes, done))
        return done[id(expr)]

    def index(self, index: Index, axes: AxisRule) -> Index:
        return self._index(index, axes, {})

    def axes_of(self, expr: Expr) -> frozenset[int]:
        """The loop variables that a canonical expression depends on, and `ACCUMULATOR`."""
        known = self._axes.get(id(expr))
        if known is None:
            known = self._axes[id(expr)] = self._find_axes(expr)
        return known

    def axes_of_index(self, index: Index) -> frozenset[int]:
        return frozenset().union(*(self._axes_of_atom(atom) for atom, _ in index.terms))

    def stride(self, index: Index, position: int) -> Dim | None:
        """As `Index.coefficient`, but a gathered index that does not vary is a constant."""
        stride = Dim()
        for atom, coefficient in index.terms:
            if isinstance(atom, Axis):
                stride = coefficient if atom.position == position else stride
            elif position in self._axes_of_atom(atom):
                return None
        return stride

    def _axes_of_atom(self, atom: Atom) -> frozenset[int]:
        match atom:
            case Axis():
                return frozenset((atom.position,))
            case FloorDiv() | Mod():
                return self.axes_of_index(atom.numerator)
            case Value():
                return self.axes_of(atom.expr)

    def _find_axes(self, expr: Expr) -> frozenset[int]:
        match expr:
            case Apply():
                return frozenset().union(*(self.axes_of(a) for a in expr.args))
            case Load() | IndexValue():
                return frozenset().union(*(self.axes_of_index(i) for i in indices_of(expr)))
            case Accumulator():
                return frozenset((ACCUMULATOR,))
        return frozenset()

    def _rebuild(self, expr: Expr, axes: AxisRule, done: dict[int, Expr]) -> Expr:
        if id(expr) not in done:
            self._kept.append(expr)
            done[id(expr)] = self._rebuilt(expr, axes, done)
        return done[id(expr)]

    def _rebuilt(self, expr: Expr, axes: AxisRule, done: dict[int, Expr]) -> Expr:
        match expr:
            case Apply():
                args = tuple(self._rebuild(a, axes, done) for a in expr.args)
                is_known = is_spelled(expr.op, args[-1].dtype) or expr.op in KEPT
                if not is_known:
                    expansion = SCALAR_OPS[expr.op].expansion
                    assert expansion is not None, f"{expr.op}: neither spelled nor expandable"
                    return self._rebuild(expansion(*args), keep_axes, {})
                key: Any = ("apply", expr.dtype, expr.op, *map(id, args))
                return self._known.setdefault(key, Apply(expr.dtype, expr.op, args))
            case Load():
                new = replace(
                    expr,
                    index=self._index(expr.index, axes, done),
                    guards=self._guards(expr.guards, axes, done),
                )
                key = ("load", new.dtype, new.param, new.index, new.guards, repr(new.fill))
                return self._known.setdefault(key, new)
            case IndexValue():
                index = self._index(expr.index, axes, done)
                key = ("index", expr.dtype, index)
                return self._known.setdefault(key, IndexValue(expr.dtype, index))
            case Const():
                return self._known.setdefault(("const", expr.dtype, repr(expr.value)), expr)
            case BatchValue():
                return self._known.setdefault(("batch", expr.numerator, expr.denominator), expr)
            case Accumulator():
                return self._known.setdefault(("accumulator", expr.number), expr)
        raise AssertionError(f"{type(expr).__name__} does not belong in a kernel")

    def _index(self, index: Index, axes: AxisRule, done: dict[int, Expr]) -> Index:
        def rule(atom: Atom) -> Index | None:
            if isinstance(atom, Axis):
                return axes(atom)
            if isinstance(atom, Value):
                expr = self._rebuild(atom.expr, axes, done)
                return Index(((Value(expr, atom.extent), Dim.of(1)),))
            return None

        return substitute(index, rule)

    def _guards(
        self, guards: tuple[Guard, ...], axes: AxisRule, done: dict[int, Expr]
    ) -> tuple[Guard, ...]:
        moved = (replace(g, index=self._index(g.index, axes, done)) for g in guards)
        return tuple(
            g for g in moved if not (isinstance(g, InRange) and is_in_range(g.index, g.extent))
        )


def indices_of(expr: Expr) -> list[Index]:
    match expr:
        case Load():
            return [expr.index, *(guard.index for guard in expr.guards)]
        case IndexValue():
            return [expr.index]
    return []


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


def stage_expressions(stage: Stage) -> tuple[Expr, ...]:
    return (stage.value,) if isinstance(stage, Store) else tuple(r.value for r in stage.reductions)


def stage_indices(stage: Stage) -> list[Index]:
    """Every index of a stage, including those inside gathered indices."""
    own = [stage.index] if isinstance(stage, Store) else []
    return [*own, *(i for e in walk_deep(stage_expressions(stage)) for i in indices_of(e))]


def all_indices(kernel: Kernel) -> list[Index]:
    return [index for stage in kernel.stages for index in stage_indices(stage)]


def walk_deep(roots: Iterable[Expr]) -> Iterator[Expr]:
    """Every distinct sub-expression, including those inside indices."""
    seen: set[int] = set()
    stack = list(roots)
    while stack:
        expr = stack.pop()
        if id(expr) in seen:
            continue
        seen.add(id(expr))
        yield expr
        if isinstance(expr, Apply):
            stack.extend(expr.args)
        for index in indices_of(expr):
            stack.extend(value.expr for value in gathered_values(index))


def gathered_values(index: Index) -> Iterator[Value]:
    """The computed numbers in an index."""
    for atom, _ in index.terms:
        if isinstance(atom, Value):
            yield atom
        elif isinstance(atom, FloorDiv | Mod):
            yield from gathered_values(atom.numerator)


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
