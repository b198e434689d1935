from __future__ import annotations

import pickle

import numpy as np

from hearth.ir import build
from hearth.ir.dim import B, Dim
from hearth.ir.graph import Graph, Output
from hearth.ir.printer import format_graph
from hearth.ir.scalar import Arg, apply


def test_a_graph_deeper_than_the_recursion_limit_survives_pickling() -> None:
    x = node = build.input_node("x", "input", (B, Dim.of(3)), "float32")
    for _ in range(3000):
        node = build.pointwise(apply("add", Arg("float32", 0), Arg("float32", 1)), node, x)
    constants = {"table": np.arange(3)}
    graph = Graph((Output("y", "output", node), Output("x", "output", x)), constants)
    again = pickle.loads(pickle.dumps(graph))
    assert format_graph(again) == format_graph(graph)
    assert again.outputs[0].node.inputs[1] is again.outputs[1].node  # what was shared still is
    np.testing.assert_array_equal(again.constants["table"], constants["table"])
