"""Mark the products of causal attention, so that a target can leave out half of each.

A score that the mask takes away is minus infinity, whatever the product was, and its probability
is zero.  That follows from the expressions alone: a value is *known* above the diagonal of its
last two axes where its expression gives one number there, from known operands and coordinates.

    a product that is only read by known values     -> nobody needs it above the diagonal
    a square operand that is known to be zero       -> half of the sum is zeros

NaN and infinities are taken for absent: 0 * x is 0, and -inf + x is -inf.  So a NaN in a masked
score does not spread, as in PyTorch's own attention.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from hearth.ir import build
from hearth.ir.dim import Dim, Shape
from hearth.ir.dtype import BOOL, FLOAT32, INT32
from hearth.ir.expr import Apply, Arg, Const, Coord, Expr, walk
from hearth.ir.graph import (
    Dot,
    Expand,
    Graph,
    Node,
    Permute,
    Pointwise,
    Recompute,
    Reshape,
    Triangular,
    users_of,
)
from hearth.ir.rewriting import rewrite_nodes
from hearth.ir.scalar import SCALAR_OPS

Number = float | int | bool
ONE = Dim.of(1)


@dataclass(frozen=True, slots=True)
class Line:
    """An integer `constant + sum of steps[k] * coordinate k`, with a step for each axis."""

    steps: tuple[int, ...]
    constant: int

    def bounds(self) -> tuple[float, float]:
        """Its range above the diagonal, where the last coordinate exceeds the one before."""
        *others, row, column = (0, 0, *self.steps)
        if any(others) or row != -column:
            return -math.inf, math.inf
        ends = self.constant + column, column * math.inf if column else self.constant
        return min(ends), max(ends)


Known = Number | Line | None


def mark_triangles(graph: Graph) -> Graph:
    """The graph with every product's triangular matrices."""
    known = _known_above(graph)
    if not any(isinstance(v, Number) for v in known.values()):
        return graph
    unneeded = _unneeded_above(graph, known)

    def is_zero(x: Node) -> bool:
        value = known[x]
        return _is_square(x) and not isinstance(value, Line) and value == 0

    def mark(new: Node, old: Node) -> Node:
        if not isinstance(old.op, Dot):
            return new
        is_lower = Triangular(
            is_zero(old.inputs[0]), is_zero(old.inputs[1]), _is_square(old) and old in unneeded
        )
        if not (is_lower.a or is_lower.b or is_lower.result):
            return new
        return build.rebuilt(new, new.inputs, replace(old.op, triangular=is_lower))

    return rewrite_nodes(graph, lambda node: node, mark)


def _known_above(graph: Graph) -> dict[Node, Known]:
    """Numbers hold above the diagonal, lines everywhere."""
    known: dict[Node, Known] = {}
    for node in graph.nodes:
        if isinstance(node.op, Pointwise):
            known[node] = _known_pointwise(node, node.op.expr, known)
        elif not isinstance(node.op, Reshape | Expand | Recompute | Permute):
            known[node] = None
        else:
            value = known[node.inputs[0]]
            known[node] = (
                _viewed(value, node.inputs[0].shape, node)
                if isinstance(value, Line)
                else value
                if _keeps_matrices(node)
                else None
            )
    return known


def _unneeded_above(graph: Graph, known: Mapping[Node, Known]) -> set[Node]:
    """Values that nobody needs above the diagonal: what is made of them there is known."""
    users, outputs = users_of(graph), {output.node for output in graph.outputs}
    found: set[Node] = set()
    for node in reversed(graph.nodes):
        if node not in outputs and all(
            _has_same_matrices(user, node)
            and (isinstance(user.op, Pointwise) or _keeps_matrices(user))
            and (known[user] is not None or user in found)
            for user in users[node]
        ):
            found.add(node)
    return found


def _viewed(line: Line, shape: Shape, node: Node) -> Line | None:
    """The line in a view that only adds, drops and repeats axes of extent 1."""
    if isinstance(node.op, Expand):
        return line
    ours, theirs = ([k for k, e in enumerate(own) if e != ONE] for own in (node.shape, shape))
    if isinstance(node.op, Permute) or [node.shape[k] for k in ours] != [shape[k] for k in theirs]:
        return None
    step_of = {ours[i]: line.steps[k] for i, k in enumerate(theirs)}
    return Line(tuple(step_of.get(k, 0) for k in range(len(node.shape))), line.constant)


def _is_square(node: Node) -> bool:
    return len(node.shape) >= 2 and node.shape[-1] == node.shape[-2]


def _has_same_matrices(node: Node, of: Node) -> bool:
    return _matrix(node.shape) == _matrix(of.shape)


def _keeps_matrices(node: Node) -> bool:
    """Whether a view has the same last two axes as what it looks at."""
    match node.op:
        case Reshape() | Expand() | Recompute():
            return _has_same_matrices(node, node.inputs[0])
        case Permute(order=order):
            rank = len(order)
            return rank >= 2 and order[-2:] == (rank - 2, rank - 1)
    return False


def _matrix(shape: Shape) -> Shape:
    return shape[-2:]


# ------------------------------------------------------------ expressions


def _known_pointwise(node: Node, root: Expr, known: Mapping[Node, Known]) -> Known:
    values: dict[int, Known] = {}
    for expr in walk([root]):
        values[id(expr)] = _known_expr(expr, node, known, values)
    return values[id(root)]


def _known_expr(expr: Expr, node: Node, known: Mapping[Node, Known],
                values: Mapping[int, Known]) -> Known:  # fmt: skip
    rank = len(node.shape)
    match expr:
        case Const(dtype=dtype, value=value) if dtype in (INT32, FLOAT32, BOOL):
            return Line((0,) * rank, int(value)) if dtype == INT32 else value
        case Arg(position=position):
            return _operand(node.inputs[position], known[node.inputs[position]], node)
        case Coord(axis=axis) if axis is not None or rank == 1:
            return Line(tuple(int(k == (axis or 0)) for k in range(rank)), 0)
        case Apply(op=op, args=args):
            return _known_apply(op, [values[id(a)] for a in args])
    return None


def _operand(x: Node, value: Known, node: Node) -> Known:
    """What is known of an operand that is broadcast to a node."""
    if isinstance(value, Line):
        steps = (step if e != ONE else 0 for step, e in zip(value.steps, x.shape, strict=True))
        return Line((*(0,) * (len(node.shape) - len(x.shape)), *steps), value.constant)
    if isinstance(x.op, Pointwise) and isinstance(x.op.expr, Const):
        return value  # the same everywhere
    return value if len(x.shape) >= 2 and _has_same_matrices(x, node) else None


def _known_apply(op: str, args: list[Known]) -> Known:
    if op in _RULES:
        value = _RULES[op](*args)
        if value is not None:
            return value
    if any(a is None or isinstance(a, Line) for a in args):
        return None
    with np.errstate(all="ignore"):
        result: Number = np.asarray(SCALAR_OPS[op].reference(*map(np.asarray, args))).item()
    return result


def _sum(a: Known, b: Known, sign: int = 1) -> Known:
    if isinstance(a, Line) and isinstance(b, Line):
        steps = tuple(x + sign * y for x, y in zip(a.steps, b.steps, strict=True))
        return Line(steps, a.constant + sign * b.constant)
    if a is None and isinstance(b, float) and math.isinf(b):
        return sign * b
    return a if b is None and isinstance(a, float) and math.isinf(a) else None


def _product(a: Known, b: Known) -> Known:
    return 0.0 if 0.0 in (a, b) and not isinstance(a, Line) and not isinstance(b, Line) else None


def _quotient(a: Known, b: Known) -> Known:
    return 0.0 if b is None and not isinstance(a, Line) and a == 0.0 else None


def _choice(condition: Known, a: Known, b: Known) -> Known:
    if isinstance(condition, bool | np.bool_):
        return a if condition else b
    return a if a == b else None


def _comparison(holds: Callable[[float, float], bool | None]) -> Callable[..., Known]:
    """A rule from the bounds of the difference: true, false or not known."""

    def rule(a: Known, b: Known) -> Known:
        difference = _sum(a, b, -1) if isinstance(a, Line) and isinstance(b, Line) else None
        return holds(*difference.bounds()) if isinstance(difference, Line) else None

    return rule


def _decided(is_true: bool, is_false: bool) -> bool | None:
    return True if is_true else False if is_false else None


def _both(a: Known, b: Known) -> Known:
    return False if a is False or b is False else None


def _either(a: Known, b: Known) -> Known:
    return True if a is True or b is True else None


_RULES: dict[str, Callable[..., Known]] = {
    "add": _sum,
    "sub": lambda a, b: _sum(a, b, -1),
    "mul": _product,
    "div": _quotient,
    "where": _choice,
    "and": _both,
    "or": _either,
    "lt": _comparison(lambda low, high: _decided(high < 0, low >= 0)),
    "le": _comparison(lambda low, high: _decided(high <= 0, low > 0)),
    "gt": _comparison(lambda low, high: _decided(low > 0, high <= 0)),
    "ge": _comparison(lambda low, high: _decided(low >= 0, high < 0)),
}
