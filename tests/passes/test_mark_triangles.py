"""Products of causal attention are marked, others are not, and marks keep the meaning."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from hearth.ir import build
from hearth.ir.dim import B, shape_of
from hearth.ir.dtype import FLOAT32, INT32
from hearth.ir.expr import Coord, Expr
from hearth.ir.graph import Dot, Graph, Node, Output, Triangular
from hearth.ir.reference import run
from hearth.ir.scalar import Arg, apply, const
from hearth.passes.mark_triangles import mark_triangles
from hearth.passes.pipeline import run_passes

LENGTH, WIDTH = 5, 3
Mask = Callable[[Expr, Expr], Expr]  # of row and column: whether a score counts


def causal(row: Expr, column: Expr) -> Expr:
    return apply("le", apply("sub", column, row), 0)


def one_ahead(row: Expr, column: Expr) -> Expr:
    return apply("le", column, apply("add", row, 1))


def anticausal(row: Expr, column: Expr) -> Expr:
    return apply("ge", column, row)


def mapped(op: str, *nodes: Node | float) -> Node:
    operands = [n for n in nodes if isinstance(n, Node)]
    args = [Arg(FLOAT32, operands.index(n)) if isinstance(n, Node) else n for n in nodes]
    return build.pointwise(apply(op, *args), *operands)


def attention(mask: Mask, *, is_added: bool, columns: int = LENGTH) -> dict[str, Node]:
    """Scores, probabilities, the context, and gradients of all that is multiplied."""
    q, g = (build.input_node(n, "input", shape_of((B, LENGTH, WIDTH)), FLOAT32) for n in "qg")
    k, v = (build.input_node(n, "input", shape_of((B, columns, WIDTH)), FLOAT32) for n in "kv")
    scores = build.dot(q, k, transpose_b=True)
    numbers = [build.pointwise(Coord(INT32, 0), shape=[n]) for n in (LENGTH, columns)]
    row, column = (
        build.reshape(x, shape)
        for x, shape in zip(numbers, [(LENGTH, 1), (1, columns)], strict=True)
    )
    condition = mask(Arg(INT32, 0), Arg(INT32, 1))
    if is_added:
        bias = build.pointwise(apply("where", condition, const(0.0), -math.inf), row, column)
        masked = mapped("add", scores, bias)
    else:
        value = apply("where", condition, Arg(FLOAT32, 2), -math.inf)
        masked = build.pointwise(value, row, column, scores)
    largest = build.reduce("max", masked, (2,))
    powers = mapped("exp", mapped("sub", masked, largest))
    p = mapped("div", powers, build.reduce("sum", powers, (2,)))
    dp = build.dot(g, v, transpose_b=True)
    weighted = mapped("mul", dp, p)
    ds = mapped("sub", weighted, mapped("mul", p, build.reduce("sum", weighted, (2,))))
    return {
        "scores": scores, "context": build.dot(p, v), "dp": dp,
        "dv": build.dot(p, g, transpose_a=True), "dq": build.dot(ds, k),
        "dk": build.dot(ds, q, transpose_a=True), "dk^T": build.dot(q, ds, transpose_a=True),
    }  # fmt: skip


def marks(nodes: dict[str, Node], *also: str) -> dict[str, Triangular | None]:
    """The marks of the products when all but the scores are results, and what `also` names."""
    results = [n for n in nodes if n not in ("scores", "dp") or n in also]
    graph = Graph(tuple(Output(n, "output", nodes[n]) for n in results))
    marked = mark_triangles(graph)
    rng = np.random.default_rng(0)
    data = {
        n.op.name: rng.standard_normal([d.at(2) for d in n.shape])  # type: ignore[union-attr]
        for n in graph.inputs
    }
    before, after = (run(g, data, 2, np.float64) for g in (graph, marked))
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-12, atol=1e-12)
    products = [n for n in graph.nodes if isinstance(n.op, Dot)]
    names = {id(node): name for name, node in nodes.items()}
    now = [n.op for n in marked.nodes if isinstance(n.op, Dot)]
    return {names[id(n)]: op.triangular for n, op in zip(products, now, strict=True)}


A, B_, RESULT = (Triangular(*(i == k for i in range(3))) for k in range(3))


@pytest.mark.parametrize("is_added", [True, False])
def test_every_product_of_causal_attention_is_marked(is_added: bool) -> None:
    assert marks(attention(causal, is_added=is_added)) == {
        "scores": RESULT, "context": A, "dp": RESULT, "dv": A, "dq": A, "dk": A, "dk^T": B_,
    }  # fmt: skip


def test_marks_survive_the_pipeline() -> None:
    nodes = attention(causal, is_added=True)
    graph = run_passes(Graph(tuple(Output(n, "output", x) for n, x in nodes.items() if n != "dp")))
    products = [n.op for n in graph.nodes if isinstance(n.op, Dot)]
    assert sum(op.triangular is not None for op in products) == 6  # the scores are a result


@pytest.mark.parametrize("mask", [one_ahead, anticausal])
def test_what_other_masks_admit_is_not_left_out(mask: Mask) -> None:
    assert set(marks(attention(mask, is_added=True)).values()) == {None}


def test_scores_that_are_a_result_are_needed() -> None:
    assert marks(attention(causal, is_added=True), "scores")["scores"] is None


def test_only_square_matrices_are_triangular() -> None:
    nodes = attention(causal, is_added=True, columns=LENGTH + 2)
    assert set(marks(nodes).values()) == {None}


def test_a_value_that_is_only_sometimes_masked_is_needed() -> None:
    scores = build.dot(*(build.input_node(n, "input", shape_of((4, 4)), FLOAT32) for n in "ab"))
    row = build.reshape(build.pointwise(Coord(INT32, 0), shape=[4]), (4, 1))
    condition = apply("gt", Arg(INT32, 0), 1)
    masked = build.pointwise(apply("where", condition, Arg(FLOAT32, 1), const(0.0)), row, scores)
    graph = Graph((Output("y", "output", masked),))
    assert all(
        n.op.triangular is None for n in mark_triangles(graph).nodes if isinstance(n.op, Dot)
    )
