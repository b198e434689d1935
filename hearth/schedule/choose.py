"""Sums that choose one element become reading that element.

    sum over k < n of where(label == k, x[k], 0)   ->   where(0 <= label < n, x[label], 0)

This is how losses of class labels look: one-hot labels are compared with an iota and summed.  The
loop over all classes would find one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from hearth.ir.dim import Dim
from hearth.ir.dtype import INT32
from hearth.ir.expr import Apply, Const, Expr, apply, rewrite
from hearth.ir.index import Atom, Axis, Index, Value, atom_index, depends_on, substitute
from hearth.ir.kernel import (
    Accumulate,
    Accumulator,
    IndexValue,
    Kernel,
    Load,
    Reduction,
    Stage,
    Store,
)
from hearth.ir.walking import indices_of, walk_kernel, with_indices

Substitution = Callable[[Expr], Expr]


def choose_elements(kernel: Kernel) -> Kernel:
    """The kernel with every such sum replaced by the element, or by zero."""
    if kernel.template is not None:
        return kernel
    meaning: dict[int, int | Expr] = {}  # of an old accumulator: a new one, or what it chose
    count = 0
    stages: list[Stage] = []
    for stage in kernel.stages:
        if isinstance(stage, Store):
            stages.append(replace(stage, value=_exchanged(stage.value, meaning)))
            continue
        kept = []
        for own in [replace(r, value=_exchanged(r.value, meaning)) for r in stage.reductions]:
            chosen = _chosen(own, stage, kernel)
            if chosen is None:
                meaning[len(meaning)] = count
                count += 1
                kept.append(own)
            else:
                meaning[len(meaning)] = chosen
        if kept:
            stages.append(Accumulate(stage.axes, tuple(kept)))
    return replace(kernel, stages=tuple(stages))


def _exchanged(expr: Expr, meaning: Mapping[int, int | Expr]) -> Expr:
    def rule(old: Expr) -> Expr:
        if not isinstance(old, Accumulator):
            return old
        new = meaning[old.number]
        return Accumulator(old.dtype, new) if isinstance(new, int) else new

    return rewrite([expr], rule)[0]


def _chosen(reduction: Reduction, stage: Accumulate, kernel: Kernel) -> Expr | None:
    """What the sum is, without a loop; None where it is not the choice of one element."""
    value, position = reduction.value, len(kernel.axes)
    is_choice = isinstance(value, Apply) and value.op == "where" and len(stage.axes) == 1
    if reduction.kind != "sum" or not is_choice:
        return None
    assert isinstance(value, Apply)
    condition, _, zero = value.args
    if not isinstance(zero, Const) or zero.value != 0:
        return None
    terms = list(_conjunction(condition))
    label = next((x for x in (_label(t, position) for t in terms) if x is not None), None)
    if label is None or _reads_written([label, value], kernel):
        return None
    extent = stage.axes[0]
    last = IndexValue(INT32, Index.of(extent - 1))
    inside = apply("minimum", apply("maximum", label, 0), last)
    # The condition is kept: a label outside of the loop is not equal to the place it is moved to.
    return _at(value, position, atom_index(Value(inside, extent)))


def _conjunction(condition: Expr) -> Iterator[Expr]:
    if isinstance(condition, Apply) and condition.op == "and":
        for term in condition.args:
            yield from _conjunction(term)
    else:
        yield condition


def _label(term: Expr, position: int) -> Expr | None:
    """What the variable of the loop must equal, if the term says so."""
    if not isinstance(term, Apply) or term.op != "eq":
        return None
    for variable, label in (term.args, term.args[::-1]):
        is_variable = isinstance(variable, IndexValue) and _is_axis(variable.index, position)
        if is_variable and label.dtype == INT32 and not _varies(label, position):
            return label
    return None


def _is_axis(index: Index, position: int) -> bool:
    if len(index.terms) != 1 or index.constant != Dim():
        return False
    ((atom, factor),) = index.terms
    return isinstance(atom, Axis) and atom.position == position and factor == Dim.of(1)


def _varies(label: Expr, position: int) -> bool:
    """Whether a label may differ within the loop, or is not known before the loops begin."""
    for expr in walk_kernel([label]):
        if isinstance(expr, Accumulator):
            return True  # targets compute addresses ahead of the point
        if any(depends_on(atom, position) for i in indices_of(expr) for atom, _ in i.terms):
            return True
    return False


def _reads_written(exprs: list[Expr], kernel: Kernel) -> bool:
    """Whether a later store might change what the sum has read by now."""
    loads = (e for e in walk_kernel(exprs) if isinstance(e, Load))
    return any(kernel.params[load.param].is_written for load in loads)


def _at(expr: Expr, position: int, place: Index) -> Expr:
    """The expression with a loop variable replaced."""

    def atom(old: Atom) -> Index | None:
        if isinstance(old, Axis):
            return place if old.position == position else None
        if isinstance(old, Value):
            return atom_index(Value(_at(old.expr, position, place), old.extent))
        return None

    def rule(old: Expr) -> Expr:
        return with_indices(old, lambda index: substitute(index, atom))

    return rewrite([expr], rule)[0]
