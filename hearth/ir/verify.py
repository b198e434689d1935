"""Is this graph legal?  Every rule is one row: for which op, what it says, and how to tell.

Passes call `verify` after they have run; a violation is our bug, never the user's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hearth.errors import HearthError, InternalError
from hearth.ir.build import ONE, broadcast, window_positions
from hearth.ir.dim import Dim, Shape, product, shape_of
from hearth.ir.dtype import BOOL, DTYPES, FLOAT32, INT32
from hearth.ir.graph import (
    Constant,
    Conv,
    ConvInputGrad,
    ConvSpec,
    ConvWeightGrad,
    Dot,
    Expand,
    Gather,
    Graph,
    Input,
    Node,
    Op,
    Pack,
    Pad,
    Permute,
    Pointwise,
    Recompute,
    Reduce,
    Reshape,
    Slice,
    Window,
    WindowTranspose,
)
from hearth.ir.scalar import Apply, Arg, BatchValue, Const, Coord, Expr, walk
from hearth.ir.scalar_types import is_well_typed

REDUCE_KINDS = ("sum", "max", "min", "prod", "argmax", "argmin")


def verify(graph: Graph, after: str) -> Graph:
    """The same graph, or `InternalError` naming the stage that made it, the node and its origin."""
    for node in graph.nodes:
        for rule in RULES:
            if isinstance(node.op, rule.op) and not _holds(rule, node):
                raise InternalError(
                    f"after {after}: {_describe(node)}: {rule.says}", where=node.origin
                )
    for says, holds in GRAPH_RULES:
        if not holds(graph):
            raise InternalError(f"after {after}: a graph must have {says}")
    return graph


@dataclass(frozen=True)
class Rule:
    op: type[object]
    says: str
    holds: Callable[[Node], bool]


def _holds(rule: Rule, node: Node) -> bool:
    try:
        return rule.holds(node)
    except (HearthError, ValueError, IndexError):
        return False  # a shape that cannot even be computed is a violation


def _describe(node: Node) -> str:
    inputs = ", ".join(f"{i.dtype}{list(i.shape)}" for i in node.inputs)
    return f"{type(node.op).__name__}({inputs}) -> {node.dtype}{list(node.shape)}"


# ---------------------------------------------------------------- scalar expressions


def _is_legal_leaf(expr: Expr, node: Node) -> bool:
    match expr:
        case Const():
            return expr.dtype in DTYPES
        case BatchValue():
            return expr.dtype == FLOAT32
        case Arg(position=position):
            return position < len(node.inputs) and node.inputs[position].dtype == expr.dtype
        case Coord(axis=axis):
            return expr.dtype == INT32 and (axis is None or 0 <= axis < len(node.shape))
    return isinstance(expr, Apply)


def _expressions(node: Node) -> list[Expr]:
    return list(walk([node.op.expr])) if isinstance(node.op, Pointwise) else []


# ---------------------------------------------------------------- shapes


def _op(node: Node) -> Any:
    return node.op


def _x(node: Node) -> Node:
    return node.inputs[0]


def _pair(node: Node) -> tuple[Shape, Shape]:
    return node.inputs[0].shape, node.inputs[1].shape


def _broadcasts(node: Node) -> bool:
    return broadcast([*(i.shape for i in node.inputs), node.shape]) == node.shape


def _reduced_shape(node: Node) -> Shape:
    return tuple(ONE if i in _op(node).axes else e for i, e in enumerate(_x(node).shape))


def _expands(node: Node) -> bool:
    pairs = zip(_x(node).shape, node.shape, strict=True)
    return all(a in (ONE, b) for a, b in pairs)


def _stays_inside(node: Node) -> bool:
    op, x = _op(node), _x(node)
    for start, step, extent, limit in zip(op.start, op.step, node.shape, x.shape, strict=True):
        last = start + (extent - 1) * step
        low, high = (start, last) if step > 0 else (last, start)
        if extent != Dim() and not (low.is_at_least(0) and (limit - 1).is_at_least(high)):
            return False
    return True


def _windows(node: Node, spatial: Shape, outer: Shape) -> bool:
    """The input is `[*lead, *spatial]`, the node `[*lead, *outer, *kernel]`."""
    rank = _op(node).spec.rank
    lead = node.shape[: len(node.shape) - 2 * rank]
    kernel = shape_of(_op(node).spec.kernel)
    return _x(node).shape == (*lead, *spatial) and node.shape == (*lead, *outer, *kernel)


def _outer(node: Node) -> Shape:
    rank = _op(node).spec.rank
    return node.shape[len(node.shape) - 2 * rank : len(node.shape) - rank]


def _spatial(node: Node) -> Shape:
    return _x(node).shape[len(_x(node).shape) - _op(node).spec.rank :]


def _dot_shape(node: Node) -> Shape:
    a, b = _pair(node)
    (m, k) = a[:-3:-1] if _op(node).transpose_a else a[-2:]
    (k_b, n) = b[:-3:-1] if _op(node).transpose_b else b[-2:]
    return (*a[:-2], m, n) if k == k_b and a[:-2] == b[:-2] else ()


def _conv_out(spec: ConvSpec, spatial: Shape, kernel: Shape) -> Shape:
    rows = zip(spatial, kernel, spec.stride, spec.padding, spec.dilation, strict=True)
    return tuple(window_positions(e, k.static, s, p, d) for e, k, s, p, d in rows)


def _conv_shape(node: Node) -> Shape:
    x, w = _pair(node)
    return (x[0], w[0], *_conv_out(_op(node).spec, x[2:], w[2:]))


def _has_channels(x: Shape, w: Shape, g_channels: Dim, spec: ConvSpec) -> bool:
    return (
        x[1] == w[1] * spec.groups
        and g_channels == w[0]
        and w[0].divided_by(spec.groups) is not None
    )


def _covers(g: Shape, x: Shape, w: Shape, spec: ConvSpec) -> bool:
    """The gradient belongs to a forward convolution of x by w (positions may be left out)."""
    out = _conv_out(spec, x[2:], w[2:])
    return len(g) == len(x) and all(o.is_at_least(e) for e, o in zip(g[2:], out, strict=True))


def _packs(node: Node) -> bool:
    sizes = [product(i.shape).static for i in node.inputs]
    ends = [o + n for o, n in zip(_op(node).offsets, sizes, strict=True)]
    starts = [*_op(node).offsets[1:], node.shape[0].static]
    return all(end <= start for end, start in zip(ends, starts, strict=True))


_ARITY: dict[type[Op], int] = {
    Input: 0, Constant: 0, Reduce: 1, Reshape: 1, Permute: 1, Expand: 1, Slice: 1, Pad: 1,
    Window: 1, WindowTranspose: 1, Recompute: 1, Gather: 2, Dot: 2, Conv: 2, ConvInputGrad: 2,
    ConvWeightGrad: 2,
}  # fmt: skip
_SAME_TYPE = (Reshape, Permute, Expand, Slice, Pad, Window, WindowTranspose, Recompute)
_ONE_TYPE = (*_SAME_TYPE, Dot, Conv, ConvInputGrad, ConvWeightGrad, Pack)

RULES: tuple[Rule, ...] = (
    Rule(object, "its op is known", lambda n: type(n.op) in (*_ARITY, Pointwise, Pack)),
    Rule(object, "its element type is one of the device's", lambda n: n.dtype in DTYPES),
    Rule(object, "its extents are never negative",
         lambda n: all(e.is_at_least(0) for e in n.shape)),
    Rule(object, "its op takes that many inputs",
         lambda n: len(n.inputs) == _ARITY.get(type(n.op), len(n.inputs))),
    Rule(object, "its inputs have the type of its result",
         lambda n: not isinstance(n.op, _ONE_TYPE) or all(i.dtype == n.dtype for i in n.inputs)),
    Rule(Pointwise, "its inputs broadcast to its shape", _broadcasts),
    Rule(Pointwise, "its expression has its element type", lambda n: _op(n).expr.dtype == n.dtype),
    Rule(Pointwise, "an argument, coordinate or constant of its expression exists",
         lambda n: all(_is_legal_leaf(e, n) for e in _expressions(n))),
    Rule(Pointwise, "its expression is well typed",
         lambda n: all(is_well_typed(e) for e in _expressions(n) if isinstance(e, Apply))),
    Rule(Reduce, "its kind is known", lambda n: _op(n).kind in REDUCE_KINDS),
    Rule(Reduce, "its axes are sorted, different and exist",
         lambda n: list(_op(n).axes) == sorted(set(_op(n).axes) & set(range(len(_x(n).shape))))),
    Rule(Reduce, "reduced axes have extent 1 and the others stay",
         lambda n: n.shape == _reduced_shape(n)),
    Rule(Reduce, "a position is int32, anything else has the type of the input",
         lambda n: n.dtype == (INT32 if _op(n).kind.startswith("arg") else _x(n).dtype)),
    Rule(Reduce, "booleans are not reduced", lambda n: _x(n).dtype != BOOL),
    Rule(Reshape, "the number of elements stays",
         lambda n: product(n.shape) == product(_x(n).shape)),
    Rule(Permute, "its order is a permutation of the axes",
         lambda n: sorted(_op(n).order) == list(range(len(_x(n).shape)))),
    Rule(Permute, "its shape is the permuted shape",
         lambda n: n.shape == tuple(_x(n).shape[i] for i in _op(n).order)),
    Rule(Expand, "only axes of extent 1 grow", _expands),
    Rule(Slice, "no step is zero", lambda n: all(s != 0 for s in _op(n).step)),
    Rule(Slice, "it stays inside its input", _stays_inside),
    Rule(Pad, "it has an amount for each axis",
         lambda n: len(_op(n).low) == len(n.shape) == len(_x(n).shape)),
    Rule(Window, "its shape is [..., *positions, *kernel]",
         lambda n: _windows(n, _spatial(n), _outer(n))),
    Rule(WindowTranspose, "its shape is [..., *spatial, *kernel]",
         lambda n: _windows(n, _spatial(n), _outer(n))),
    Rule(Recompute, "its shape is its input's", lambda n: n.shape == _x(n).shape),
    Rule(Gather, "its index is int32", lambda n: n.inputs[1].dtype == INT32),
    Rule(Gather, "its result has the type of the table and the shape of the index",
         lambda n: n.dtype == _x(n).dtype and n.shape == n.inputs[1].shape),
    Rule(Gather, "the index fits in the table along the other axes",
         lambda n: all(axis == _op(n).axis or a.is_at_least(b) for axis, (a, b) in
                       enumerate(zip(*_pair(n), strict=True)))),
    Rule(Dot, "it multiplies [*batch, M, K] by [*batch, K, N]", lambda n: n.shape == _dot_shape(n)),
    Rule(Conv, "its channels agree", lambda n: _has_channels(*_pair(n), n.shape[1], _op(n).spec)),
    Rule(Conv, "its shape is [N, Co, *out]", lambda n: n.shape == _conv_shape(n)),
    Rule(ConvInputGrad, "its channels agree",
         lambda n: _has_channels(n.shape, n.inputs[1].shape, _x(n).shape[1], _op(n).spec)),
    Rule(ConvInputGrad, "its shape is [N, Ci, *in] of the forward convolution",
         lambda n: n.shape[0] == _x(n).shape[0]
         and _covers(_x(n).shape, n.shape, n.inputs[1].shape, _op(n).spec)),
    Rule(ConvWeightGrad, "its channels agree",
         lambda n: _has_channels(n.inputs[1].shape, n.shape, _x(n).shape[1], _op(n).spec)),
    Rule(ConvWeightGrad, "its shape is [Co, Ci/groups, *kernel] of the forward convolution",
         lambda n: _x(n).shape[0] == n.inputs[1].shape[0]
         and _covers(_x(n).shape, n.inputs[1].shape, n.shape, _op(n).spec)),
    Rule(Pack, "its parts lie in order, apart, and inside", _packs),
)  # fmt: skip


# ---------------------------------------------------------------- whole graphs


def _inputs_differ(graph: Graph) -> bool:
    names = [node.op.name for node in graph.inputs if isinstance(node.op, Input)]
    return len(set(names)) == len(names)


def _outputs_differ(graph: Graph) -> bool:
    return len({output.name for output in graph.outputs}) == len(graph.outputs)


def _constants_exist(graph: Graph) -> bool:
    tables = [n for n in graph.nodes if isinstance(n.op, Constant)]
    found = [(graph.constants.get(_op(n).name), n.shape) for n in tables]
    return all(a is not None and shape_of(a.shape) == shape for a, shape in found)


def _updates_fit(graph: Graph) -> bool:
    state = {_op(node).name: node for node in graph.inputs}
    pairs = [(o.node, state[o.name]) for o in graph.outputs
             if o.role == "update" and o.name in state]  # fmt: skip
    return all(a.shape == b.shape and a.dtype == b.dtype for a, b in pairs)


GRAPH_RULES: tuple[tuple[str, Callable[[Graph], bool]], ...] = (
    ("at least one output", lambda graph: bool(graph.outputs)),
    ("one node for each input name", _inputs_differ),
    ("outputs with different names", _outputs_differ),
    ("a table of the right shape for each constant", _constants_exist),
    ("updates of the shape and type of the state they replace", _updates_fit),
)
