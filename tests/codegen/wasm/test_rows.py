"""Costly values of a row are computed by one stage and read by the others."""

from __future__ import annotations

import pytest

from hearth.codegen.wasm.loops import LoopPlan
from hearth.codegen.wasm.rows import KeptRows
from hearth.ir import build
from hearth.ir.dim import B, Dim
from hearth.ir.dtype import FLOAT32
from hearth.ir.expr import Arg, apply
from hearth.ir.graph import Graph, Output
from hearth.ir.kernel import Kernel
from hearth.schedule.schedule import schedule
from tests.codegen.wasm.machine import Machine
from tests.codegen.wasm.test_kernels import compare, feed

pytestmark = pytest.mark.wasm
X, Y, Z = (Arg(FLOAT32, i) for i in range(3))


def softmax(width: int) -> Kernel:
    """The shares of each row, and their product with another tensor."""
    shape = (B, Dim.of(3), Dim.of(width))
    x, weights = (build.input_node(name, "input", shape, FLOAT32) for name in "xw")
    top = build.reduce("max", x, (2,))
    powers = build.pointwise(apply("exp", apply("sub", X, Y)), x, top)
    shares = build.pointwise(apply("div", X, Y), powers, build.reduce("sum", powers, (2,)))
    weighted = build.pointwise(apply("mul", X, Y), shares, weights)
    graph = Graph((Output("shares", "output", shares), Output("weighted", "output", weighted)))
    (step,) = schedule(graph, [x, weights], {}).steps
    return step.kernel


@pytest.mark.parametrize("width", [1, 3, 7, 33, 64, 67, 300])
def test_rows_of_a_softmax(width: int) -> None:
    kernel = softmax(width)
    for batch in (1, 5):
        compare(Machine([kernel]), 0, feed(kernel, batch), batch)


def test_exponentials_and_shares_are_kept() -> None:
    plan = LoopPlan.of(softmax(64))
    rows = KeptRows.of(plan.kernel, plan.canonical)
    assert rows.size_bytes == 2 * 4 * 64
    assert Machine([plan.kernel]).module.scratch_bytes == 2 * 4 * 64
