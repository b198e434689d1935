"""Small random graphs for the property tests of passes and schedules.

Shapes mix the batch, primes and ones; values are shared, viewed several times and reduced, and a
state entry may be updated while others still need its old value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from hearth.ir import build
from hearth.ir.dim import B, Dim, product, shape_of
from hearth.ir.graph import ConvSpec, Graph, Node, Output, WindowSpec
from hearth.ir.scalar import Arg, BatchValue, Coord, apply

UNARY = ("neg", "abs", "exp", "sigmoid", "tanh", "sqrt")
BINARY = ("add", "sub", "mul", "maximum", "minimum")
STATE_SHAPES = ([3, 5], [5], [2, 3, 1, 3])


def f32(position: int) -> Arg:
    return Arg("float32", position)


def data_inputs() -> list[Node]:
    shapes = ([B, 5], [B, 3, 7], [B, 2, 6, 5])
    nodes = [
        build.input_node(f"x{i}", "input", shape_of(s), "float32") for i, s in enumerate(shapes)
    ]
    return [*nodes, build.input_node("labels", "target", shape_of([B]), "int32")]


def state_inputs() -> list[Node]:
    return [
        build.input_node(f"s{i}", "parameter", shape_of(s), "float32")
        for i, s in enumerate(STATE_SHAPES)
    ]


@st.composite
def graphs(draw: st.DrawFn, max_nodes: int = 12) -> Graph:
    data = data_inputs()
    pool = [*data[:-1], *state_inputs()]
    for _ in range(draw(st.integers(2, max_nodes))):
        node = draw(st.sampled_from(MAKERS))(draw, pool, data[-1])
        if node is not None:
            pool.append(node)
    results = draw(st.lists(st.sampled_from(pool[3:]), min_size=1, max_size=3, unique_by=id))
    outputs = [Output(f"y{i}", "output", node) for i, node in enumerate(results)]
    for i, shape in enumerate(STATE_SHAPES):
        fitting = [n for n in pool if n.shape == shape_of(shape) and n.dtype == "float32"]
        if draw(st.booleans()):
            outputs.append(Output(f"s{i}", "update", draw(st.sampled_from(fitting))))
    return Graph(tuple(outputs))


def _pick(draw: st.DrawFn, pool: list[Node]) -> Node:
    return draw(st.sampled_from(pool))


def _unary(draw: st.DrawFn, pool: list[Node], _: Node) -> Node:
    x = _pick(draw, pool)
    name = draw(st.sampled_from(UNARY))
    inner = apply("abs", f32(0)) if name == "sqrt" else apply("mul", f32(0), 0.25)
    return build.pointwise(apply(name, inner), x)


def _binary(draw: st.DrawFn, pool: list[Node], _: Node) -> Node | None:
    x = _pick(draw, pool)
    fitting = [y for y in pool if _broadcasts(x, y)]
    y = draw(st.sampled_from(fitting))
    scaled = apply("mul", f32(1), BatchValue("float32", Dim.of(1), B))
    return build.pointwise(apply(draw(st.sampled_from(BINARY)), f32(0), scaled), x, y)


def _one_hot(draw: st.DrawFn, pool: list[Node], labels: Node) -> Node:
    x = _pick(draw, [n for n in pool if n.shape == shape_of([B, 5])])
    is_label = apply("eq", Arg("int32", 0), Coord("int32", 1))
    expr = apply("where", is_label, f32(1), 0.0)
    return build.pointwise(expr, build.reshape(labels, [B, 1]), x)


def _reduce(draw: st.DrawFn, pool: list[Node], _: Node) -> Node | None:
    x = _pick(draw, [n for n in pool if n.shape])
    axes = draw(st.lists(st.integers(0, len(x.shape) - 1), min_size=1, max_size=2, unique=True))
    node = build.reduce(draw(st.sampled_from(("sum", "max", "min"))), x, axes)
    if draw(st.booleans()):
        return node
    return build.reshape(node, [e for i, e in enumerate(node.shape) if i not in axes])


def _softmax(draw: st.DrawFn, pool: list[Node], _: Node) -> Node:
    x = _pick(draw, [n for n in pool if n.shape])
    last = (len(x.shape) - 1,)
    shifted = build.pointwise(apply("sub", f32(0), f32(1)), x, build.reduce("max", x, last))
    e = build.pointwise(apply("exp", f32(0)), shifted)
    return build.pointwise(apply("div", f32(0), f32(1)), e, build.reduce("sum", e, last))


def _view(draw: st.DrawFn, pool: list[Node], _: Node) -> Node:
    x = _pick(draw, pool)
    kind = draw(
        st.sampled_from(("flatten", "permute", "slice", "pad", "flip", "expand", "recompute"))
    )
    rank = len(x.shape)
    match kind:
        case "flatten":
            return build.reshape(x, [product(x.shape)])
        case "recompute":
            return build.recompute(x, draw(st.integers(0, 1)))
        case "permute":
            return build.permute(x, draw(st.permutations(range(rank))))
        case "pad":
            low = [draw(st.integers(0, 2)) if e.is_static else 0 for e in x.shape]
            return build.pad(x, low, [0] * rank, 0.5)
        case "expand":
            return build.reshape(build.expand(x, [2, *x.shape]), [*x.shape[:-1], 2 * x.shape[-1]]) \
                if rank else x  # fmt: skip
    is_flip = kind == "flip"
    start, shape = [], []
    for extent in x.shape:
        cut = 1 if extent.is_static and extent.static > 2 and not is_flip else 0
        start.append(extent - 1 if is_flip else Dim.of(cut))
        shape.append(extent - cut)
    return build.slice_(x, start, shape, [-1 if is_flip else 1] * rank)


def _window(draw: st.DrawFn, pool: list[Node], _: Node) -> Node | None:
    images = [n for n in pool if len(n.shape) == 4 and _is_image(n)]
    if not images:
        return None
    x = draw(st.sampled_from(images))
    spec = WindowSpec((2, 3), (draw(st.integers(1, 2)), 1), (1, 1), (1, 1))
    pooled = build.reduce("max", build.window(x, spec, -np.inf), (4, 5))
    values = build.reshape(pooled, pooled.shape[:4])
    if draw(st.booleans()):
        return values
    seen = build.window_transpose(values, spec, x.shape[2:], 0.0)
    return build.reshape(build.reduce("sum", seen, (4, 5)), x.shape)


def _conv(draw: st.DrawFn, pool: list[Node], _: Node) -> Node | None:
    images = [n for n in pool if len(n.shape) == 4 and _is_image(n) and n.shape[1] == Dim.of(2)]
    if not images:
        return None
    x = draw(st.sampled_from(images))
    weight = next(n for n in pool if n.shape == shape_of([2, 3, 1, 3]))
    kernel = build.slice_(weight, [0, 0, 0, 0], [2, 1, 1, 3])
    spec = ConvSpec((1, 1), (0, 1), (1, 1), 2)
    return build.conv(x, build.pointwise(apply("mul", f32(0), 2.0), kernel), spec)


def _dot(draw: st.DrawFn, pool: list[Node], _: Node) -> Node | None:
    matrices = [n for n in pool if len(n.shape) == 2]
    a = draw(st.sampled_from(matrices))
    fitting = [(b, t) for b in matrices for t in (False, True) if b.shape[int(t)] == a.shape[1]]
    if not fitting:
        return build.dot(a, a, transpose_b=True)
    b, transposed = draw(st.sampled_from(fitting))
    return build.dot(a, b, transpose_b=transposed)


MAKERS = (_unary, _binary, _binary, _one_hot, _reduce, _softmax, _view, _view, _window, _conv, _dot)


def _is_image(node: Node) -> bool:
    return all(e.is_static and e.static >= 3 for e in node.shape[2:]) and node.shape[0] == B


def _broadcasts(x: Node, y: Node) -> bool:
    one = Dim.of(1)
    pairs = zip(x.shape[::-1], y.shape[::-1], strict=False)
    return all(a == b or one in (a, b) for a, b in pairs)


def feeds(batch: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    out: dict[str, Any] = {}
    for node in [*data_inputs(), *state_inputs()]:
        shape = tuple(e.at(batch) for e in node.shape)
        name = node.origin
        is_label = node.dtype == "int32"
        out[name] = (
            rng.integers(0, 5, shape).astype(np.int32)
            if is_label
            else rng.normal(size=shape).astype(np.float32)
        )
    return out
