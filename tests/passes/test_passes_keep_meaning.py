"""Each pass alone, on random graphs: the same values before and after, and a legal graph."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from hearth.ir import build
from hearth.ir.dim import B, shape_of
from hearth.ir.graph import Dot, Graph, Node, Output, Permute, Reshape
from hearth.ir.reference import run
from hearth.ir.scalar import Arg, apply, const
from hearth.ir.verify import verify
from hearth.passes.absorb_transposes import absorb_transposes
from hearth.passes.drop_empty import drop_empty
from hearth.passes.eliminate_common import eliminate_common
from hearth.passes.merge_batches import merge_batches
from hearth.passes.pipeline import PASSES, Pass, run_passes
from hearth.passes.simplify_views import simplify_views
from tests.random_graphs import feeds, graphs


@pytest.mark.parametrize("rewrite", dict.fromkeys(PASSES), ids=lambda p: p.__name__)
@settings(max_examples=100, deadline=None)
@given(graph=graphs())
def test_a_pass_keeps_the_meaning_of_a_graph(rewrite: Pass, graph: Graph) -> None:
    after = verify(rewrite(graph), after=rewrite.__name__)
    before_values, after_values = (run(g, feeds(3), 3, np.float64) for g in (graph, after))
    for name, value in before_values.items():
        np.testing.assert_allclose(after_values[name], value, rtol=1e-10, atol=1e-10)


def matrix(name: str, *shape: object) -> Node:
    return build.input_node(name, "input", shape_of(shape), "float32")  # type: ignore[arg-type]


def graph_of(*nodes: Node) -> Graph:
    return Graph(tuple(Output(f"y{i}", "output", node) for i, node in enumerate(nodes)))


def kinds(graph: Graph) -> list[str]:
    return [type(node.op).__name__ for node in graph.nodes]


def test_permutations_that_cancel_disappear() -> None:
    x = matrix("x", B, 3, 5)
    graph = simplify_views(graph_of(build.permute(build.permute(x, (2, 0, 1)), (1, 2, 0))))
    assert kinds(graph) == ["Input"]


def test_moving_an_axis_of_extent_one_is_a_reshape() -> None:
    graph = simplify_views(graph_of(build.permute(matrix("x", B, 1, 5), (1, 0, 2))))
    assert kinds(graph) == ["Input", "Reshape"]
    assert isinstance(graph.outputs[0].node.op, Reshape)


def test_a_linear_layers_weight_gradient_is_one_product() -> None:
    g, x = matrix("g", B, 5), matrix("x", B, 7)
    weight_gradient = build.permute(build.dot(build.permute(x, (1, 0)), g), (1, 0))
    graph = absorb_transposes(graph_of(weight_gradient))
    assert graph.outputs[0].node.op == Dot(transpose_a=True, transpose_b=False)
    assert graph.outputs[0].node.inputs[0].origin == "g"


@pytest.mark.parametrize("transpose_b", [False, True])
def test_a_product_with_a_broadcast_matrix_copies_it_for_no_item(transpose_b: bool) -> None:
    x, w = matrix("x", 4, B, 3), matrix("w", *((5, 3) if transpose_b else (3, 5)))
    graph = graph_of(build.dot(x, build.expand(w, (4, *w.shape)), False, transpose_b))
    after = simplify_views(merge_batches(graph))
    assert sorted(kinds(after)) == ["Dot", "Input", "Input", "Reshape", "Reshape"]
    rng = np.random.default_rng(0)
    for batch in (1, 3):
        data = {
            "x": rng.normal(size=(4, batch, 3)),
            "w": rng.normal(size=[d.static for d in w.shape]),
        }
        before, values = (run(g, data, batch, np.float64) for g in (graph, after))
        np.testing.assert_allclose(values["y0"], before["y0"], rtol=1e-12)


def test_a_product_needed_both_ways_is_computed_once() -> None:
    product = build.dot(matrix("a", B, 3), matrix("b", 3, 5))
    graph = absorb_transposes(graph_of(product, build.permute(product, (1, 0))))
    assert kinds(graph).count("Dot") == 1
    assert any(isinstance(node.op, Permute) for node in graph.nodes)


def test_equal_values_are_computed_once_and_different_constants_are_not() -> None:
    x = matrix("x", B, 3)
    doubled = [build.pointwise(apply("mul", Arg("float32", 0), 2.0), x) for _ in range(2)]
    zeros = [build.pointwise(const(z), shape=[3]) for z in (0.0, -0.0)]
    graph = eliminate_common(graph_of(*doubled, *zeros))
    assert graph.outputs[0].node is graph.outputs[1].node
    assert graph.outputs[2].node is not graph.outputs[3].node


def test_the_pipeline_says_what_each_pass_did() -> None:
    lines: list[str] = []
    run_passes(graph_of(build.permute(matrix("x", B, 3), (0, 1))), lines.append)
    assert len(lines) == len(PASSES)
    assert all("unchanged" in line for line in lines)


def test_nothing_is_computed_from_tensors_without_elements() -> None:
    x = matrix("x", B, 0)
    graph = graph_of(
        build.reduce("sum", build.pointwise(apply("exp", Arg("float32", 0)), x), (1,)),
        build.reduce("prod", x, (1,)),
        build.dot(x, matrix("w", 0, 5)),
        build.pad(x, (0, 1), (0, 2), 7.0),
        build.permute(x, (1, 0)),
    )
    after = drop_empty(graph)
    assert kinds(after) == ["Pointwise"] * 5
    for name, value in run(graph, {"x": np.zeros((3, 0)), "w": np.zeros((0, 5))}, 3).items():
        np.testing.assert_array_equal(run(after, {}, 3)[name], value)
