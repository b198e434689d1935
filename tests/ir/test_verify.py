"""One broken graph for each rule of the verifier."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hearth.errors import InternalError
from hearth.ir import build
from hearth.ir.dim import B, Dim, shape_of
from hearth.ir.dtype import BOOL, FLOAT32, INT32
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
    Node,
    Op,
    Output,
    Pack,
    Pad,
    Permute,
    Pointwise,
    Recompute,
    Reduce,
    Reshape,
    Slice,
    Window,
    WindowSpec,
    WindowTranspose,
)
from hearth.ir.scalar import Apply, Arg, BatchValue, Const, Coord, Expr, apply
from hearth.ir.verify import GRAPH_RULES, RULES, verify


def value(*shape: Dim | int, dtype: str = FLOAT32, name: str = "x") -> Node:
    return build.input_node(name, "input", shape_of(shape), dtype)


def node(op: Op, inputs: tuple[Node, ...], shape: tuple[Dim | int, ...],
         dtype: str = FLOAT32) -> Node:  # fmt: skip
    return Node(op, inputs, shape_of(shape), dtype, "model.py:7")


def graph(*nodes: Node, role: str = "output") -> Graph:
    return Graph(tuple(Output(f"y{k}", role, n) for k, n in enumerate(nodes)))


def pointwise(expr: Expr, *inputs: Node, shape: tuple[Dim | int, ...] = (B, 3),
              dtype: str = FLOAT32) -> Node:  # fmt: skip
    return node(Pointwise(expr), inputs, shape, dtype)


X = value(B, 3)
F32 = Arg(FLOAT32, 0)
SPEC = ConvSpec((1, 1), (0, 0), (1, 1), 1)
GROUPED = ConvSpec((1, 1), (0, 0), (1, 1), 2)
IMAGE, WEIGHT = value(B, 4, 7, 7), value(6, 4, 3, 3, name="w")
GRADIENT = value(B, 6, 5, 5, name="g")
WINDOW = WindowSpec((2,), (1,), (0,), (1,))

BROKEN: dict[str, list[Node]] = {
    "its op is known": [node("add", (), (B,))],  # type: ignore[arg-type]
    "its element type is one of the device's": [value(B, dtype="float64")],
    "its extents are never negative": [value(B - 3), value(B * B - 2 * B), value(-1)],
    "its op takes that many inputs": [
        node(Reshape(), (X, X), (B, 3)), node(Dot(), (X,), (B, 3)), node(Constant("c"), (X,), (3,)),
    ],
    "its inputs have the type of its result": [
        node(Reshape(), (X,), (B, 3), INT32),
        node(Dot(), (X, value(3, 5, dtype=INT32)), (B, 5)),
        node(Pack("flat", (0, 3)), (value(3), value(3, dtype=INT32)), (6,)),
    ],
    "its inputs broadcast to its shape": [
        pointwise(F32, X, shape=(B, 5)), pointwise(F32, X, shape=(3,)),
        pointwise(F32, X, shape=(B, 1)),
    ],
    "its expression has its element type": [pointwise(F32, X, dtype=INT32)],
    "an argument, coordinate or constant of its expression exists": [
        pointwise(Arg(FLOAT32, 1), X), pointwise(Arg(INT32, 0), X, dtype=INT32),
        pointwise(Coord(INT32, 2), X, dtype=INT32), pointwise(Coord(FLOAT32, 0), X),
        pointwise(BatchValue(INT32, B, Dim.of(1)), dtype=INT32), pointwise(Expr(FLOAT32), X),
        pointwise(Apply(FLOAT32, "neg", (Const("float16", 1.0),)), X),
    ],
    "its expression is well typed": [
        pointwise(Apply(FLOAT32, "cube", (F32,)), X),
        pointwise(Apply(FLOAT32, "add", (F32,)), X),
        pointwise(Apply(FLOAT32, "add", (Const(INT32, 1), F32)), X),
        pointwise(Apply(INT32, "add", (F32, F32)), X, dtype=INT32),
        pointwise(Apply(FLOAT32, "where", (F32, F32, F32)), X),
        pointwise(Apply(BOOL, "add", (Const(BOOL, True), Const(BOOL, True))), dtype=BOOL),
        pointwise(Apply(INT32, "exp", (Const(INT32, 1),)), dtype=INT32),
        pointwise(Apply(FLOAT32, "bit_and", (F32, F32)), X),
    ],
    "its kind is known": [node(Reduce("mean", (1,)), (X,), (B, 1))],
    "its axes are sorted, different and exist": [
        node(Reduce("sum", (1, 0)), (X,), (1, 1)), node(Reduce("sum", (2,)), (X,), (B, 3)),
        node(Reduce("sum", (1, 1)), (X,), (B, 1)), node(Reduce("sum", (-1,)), (X,), (B, 1)),
    ],
    "reduced axes have extent 1 and the others stay": [node(Reduce("sum", (1,)), (X,), (B,)),
                                                       node(Reduce("sum", (1,)), (X,), (B, 3))],
    "a position is int32, anything else has the type of the input": [
        node(Reduce("argmax", (1,)), (X,), (B, 1)), node(Reduce("sum", (1,)), (X,), (B, 1), INT32),
    ],
    "booleans are not reduced": [node(Reduce("max", (0,)), (value(3, dtype=BOOL),), (1,), BOOL)],
    "the number of elements stays": [node(Reshape(), (X,), (B, 4)), node(Reshape(), (X,), (3,))],
    "its order is a permutation of the axes": [node(Permute((0, 0)), (X,), (B, B))],
    "its shape is the permuted shape": [node(Permute((1, 0)), (X,), (B, 3))],
    "only axes of extent 1 grow": [node(Expand(), (X,), (B, 6)), node(Expand(), (X,), (2, B, 3))],
    "no step is zero": [node(Slice(shape_of((0, 0)), (1, 0)), (X,), (B, 3))],
    "it stays inside its input": [
        node(Slice(shape_of((0, 1)), (1, 1)), (X,), (B, 3)),
        node(Slice(shape_of((0, 1)), (1, -1)), (X,), (B, 3)),
        node(Slice(shape_of((1, 0)), (1, 1)), (X,), (B, 3)),
        node(Slice(shape_of((0, -1)), (1, 1)), (X,), (B, 3)),
        node(Slice(shape_of((0,)), (1,)), (X,), (B,)),
    ],
    "it has an amount for each axis": [node(Pad(shape_of((1,)), 0), (X,), (B, 3))],
    "its shape is [..., *positions, *kernel]": [
        node(Window(WINDOW, 0), (X,), (B, 2)), node(Window(WINDOW, 0), (X,), (B, 2, 3)),
        node(Window(WINDOW, 0), (X,), (5, 2, 2)),
    ],
    "its shape is [..., *spatial, *kernel]": [
        node(WindowTranspose(WINDOW, 0), (X,), (B, 4, 3)),
        node(WindowTranspose(WINDOW, 0), (X,), (B, 4)),
    ],
    "its shape is its input's": [node(Recompute(0), (X,), (B, 4))],
    "its index is int32": [node(Gather(1), (X, value(B, 3, name="i")), (B, 3))],
    "its result has the type of the table and the shape of the index": [
        node(Gather(1), (X, value(B, 2, dtype=INT32, name="i")), (B, 3)),
        node(Gather(1), (X, value(B, 2, dtype=INT32, name="i")), (B, 2), INT32),
    ],
    "the index fits in the table along the other axes": [
        node(Gather(1), (X, value(B + 1, 2, dtype=INT32, name="i")), (B + 1, 2)),
        node(Gather(0), (X, value(2, dtype=INT32, name="i")), (2,)),
    ],
    "it multiplies [*batch, M, K] by [*batch, K, N]": [
        node(Dot(), (X, value(5, 3, name="w")), (B, 3)),
        node(Dot(transpose_b=True), (X, value(5, 3, name="w")), (B, 3)),
        node(Dot(), (X, value(2, 3, 5, name="w")), (B, 5)),
    ],
    "its channels agree": [
        node(Conv(GROUPED), (IMAGE, WEIGHT), (B, 6, 5, 5)),
        node(Conv(SPEC), (IMAGE, value(6, 3, 3, 3, name="w")), (B, 6, 5, 5)),
        node(ConvInputGrad(SPEC), (value(B, 5, 5, 5, name="g"), WEIGHT), (B, 4, 7, 7)),
        node(ConvInputGrad(SPEC), (GRADIENT, WEIGHT), (B, 8, 7, 7)),
        node(ConvWeightGrad(SPEC), (GRADIENT, IMAGE), (5, 4, 3, 3)),
        node(ConvWeightGrad(GROUPED), (GRADIENT, IMAGE), (6, 4, 3, 3)),
    ],
    "its shape is [N, Co, *out]": [node(Conv(SPEC), (IMAGE, WEIGHT), (B, 6, 5, 4)),
                                   node(Conv(SPEC), (IMAGE, WEIGHT), (3, 6, 5, 5))],
    "its shape is [N, Ci, *in] of the forward convolution": [
        node(ConvInputGrad(SPEC), (GRADIENT, WEIGHT), (B, 4, 6, 7)),
        node(ConvInputGrad(SPEC), (GRADIENT, WEIGHT), (3, 4, 7, 7)),
    ],
    "its shape is [Co, Ci/groups, *kernel] of the forward convolution": [
        node(ConvWeightGrad(SPEC), (GRADIENT, IMAGE), (6, 4, 4, 3)),
        node(ConvWeightGrad(SPEC), (value(3, 6, 5, 5, name="g"), IMAGE), (6, 4, 3, 3)),
    ],
    "its parts lie in order, apart, and inside": [
        node(Pack("flat", (0, 2)), (value(3), value(3)), (6,)),
        node(Pack("flat", (0, 3)), (value(3), value(3)), (5,)),
        node(Pack("flat", (3, 0)), (value(3), value(3)), (6,)),
        node(Pack("flat", (0,)), (value(3), value(3)), (6,)),
        node(Pack("flat", (0,)), (X,), (6,)),
    ],
}  # fmt: skip

CASES = [(says, broken) for says, nodes in BROKEN.items() for broken in nodes]


def test_every_rule_has_a_broken_graph() -> None:
    assert {rule.says for rule in RULES} == set(BROKEN)
    assert {says for says, _ in GRAPH_RULES} == set(BROKEN_GRAPHS)


@pytest.mark.parametrize(("says", "broken"), CASES, ids=[s for s, _ in CASES])
def test_a_broken_node_is_refused_by_its_own_rule(says: str, broken: Node) -> None:
    with pytest.raises(InternalError) as caught:
        verify(graph(broken), after="some pass")
    assert says in str(caught.value)
    assert "after some pass" in str(caught.value)
    assert broken.origin in str(caught.value)


def two_inputs_of_one_name() -> Graph:
    return graph(build.dot(value(B, 3), value(3, 3)))


def a_missing_table() -> Graph:
    return graph(build.constant("table", (3,), FLOAT32))


def a_table_of_another_shape() -> Graph:
    table = build.constant("table", (3,), FLOAT32)
    return Graph((Output("y", "output", table),), {"table": np.zeros(4)})


def an_update_of_another_shape() -> Graph:
    x = value(B, 3)
    total = build.reduce("sum", x, (0,))
    return Graph((Output("x", "update", total), Output("y", "output", x)))


BROKEN_GRAPHS: dict[str, list[Callable[[], Graph]]] = {
    "at least one output": [lambda: Graph(())],
    "one node for each input name": [two_inputs_of_one_name],
    "outputs with different names": [lambda: Graph((Output("y", "output", X),) * 2)],
    "a table of the right shape for each constant": [a_missing_table, a_table_of_another_shape],
    "updates of the shape and type of the state they replace": [an_update_of_another_shape],
}
GRAPH_CASES = [(says, make) for says, makers in BROKEN_GRAPHS.items() for make in makers]


@pytest.mark.parametrize(("says", "make"), GRAPH_CASES, ids=[s for s, _ in GRAPH_CASES])
def test_a_broken_graph_is_refused(says: str, make: Callable[[], Graph]) -> None:
    with pytest.raises(InternalError, match="after lowering") as caught:
        verify(make(), after="lowering")
    assert says in str(caught.value)


def test_a_legal_graph_comes_back_as_it_is() -> None:
    expr = apply("where", apply("gt", F32, 0.0), F32, apply("mul", F32, 0.1))
    legal = graph(build.pointwise(expr, X), build.conv(IMAGE, WEIGHT, SPEC))
    with pytest.raises(InternalError, match="one node for each input name"):
        verify(legal, after="test")  # X and IMAGE are both called x
    legal = graph(build.pointwise(expr, X))
    assert verify(legal, after="test") is legal
