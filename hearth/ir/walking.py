"""What the stages of a kernel are made of: expressions and indices, one inside the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from hearth.ir.expr import Expr, walk
from hearth.ir.index import FloorDiv, Index, Mod, Value
from hearth.ir.kernel import IndexValue, Kernel, Load, Stage, Store


def stage_expressions(stage: Stage) -> tuple[Expr, ...]:
    """The root expressions of a stage, in order."""
    return (stage.value,) if isinstance(stage, Store) else tuple(r.value for r in stage.reductions)


def kernel_expressions(kernel: Kernel) -> list[Expr]:
    """Every root expression of a kernel, in order."""
    return [expr for stage in kernel.stages for expr in stage_expressions(stage)]


def stage_indices(stage: Stage) -> list[Index]:
    """Every index of a stage, including those inside gathered indices."""
    own = [stage.index] if isinstance(stage, Store) else []
    gathered = [value.expr for index in own for value in values_in(index)]
    within = walk_kernel([*gathered, *stage_expressions(stage)])
    return [*own, *(index for expr in within for index in indices_of(expr))]


def walk_kernel(roots: Iterable[Expr]) -> Iterator[Expr]:
    """Every distinct sub-expression once, operands first, including those inside indices."""
    seen: set[int] = set()

    def visit(expr: Expr) -> Iterator[Expr]:
        if id(expr) in seen:
            return
        for sub in walk([expr]):
            if id(sub) in seen:
                continue
            for index in indices_of(sub):
                for value in values_in(index):
                    yield from visit(value.expr)
            if id(sub) not in seen:
                seen.add(id(sub))
                yield sub

    for root in roots:
        yield from visit(root)


def indices_of(expr: Expr) -> list[Index]:
    """The indices of one expression: of what it loads and guards, or of which it is the value."""
    match expr:
        case Load():
            return [expr.index, *(guard.index for guard in expr.guards)]
        case IndexValue():
            return [expr.index]
    return []


def values_in(index: Index) -> Iterator[Value]:
    """The computed numbers in an index."""
    for atom, _ in index.terms:
        match atom:
            case Value():
                yield atom
            case FloorDiv() | Mod():
                yield from values_in(atom.numerator)


def with_indices(expr: Expr, change: Callable[[Index], Index]) -> Expr:
    """The expression with other indices of its own; its operands stay."""
    match expr:
        case Load():
            guards = tuple(replace(guard, index=change(guard.index)) for guard in expr.guards)
            return replace(expr, index=change(expr.index), guards=guards)
        case IndexValue():
            return replace(expr, index=change(expr.index))
    return expr
