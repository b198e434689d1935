"""A sum over classes that keeps one of them is that one, or nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hearth.ir import build
from hearth.ir.dim import B, Dim
from hearth.ir.dtype import FLOAT32, INT32
from hearth.ir.expr import Arg, Coord, apply, const
from hearth.ir.graph import Graph, Node, Output
from hearth.ir.kernel import Accumulate
from hearth.ir.reference import run
from hearth.schedule.schedule import schedule
from tests.random_graphs import feeds
from tests.schedule.test_schedule_keeps_meaning import execute

CLASSES = 7


def losses(*, ignored: int | None = None, weighted: bool = False) -> tuple[Graph, list[Node]]:
    """The logarithm of the share of each row's label, as PyTorch's losses spell it."""
    x = build.input_node("x", "input", (B, Dim.of(CLASSES)), FLOAT32)
    y = build.input_node("y", "target", (B, Dim.of(1)), INT32)
    top = build.reduce("max", x, (1,))
    shares = build.pointwise(apply("exp", apply("sub", Arg(FLOAT32, 0), Arg(FLOAT32, 1))), x, top)
    total = build.reduce("sum", shares, (1,))
    shifted = apply("sub", Arg(FLOAT32, 0), Arg(FLOAT32, 1))
    log = apply("sub", shifted, apply("log", Arg(FLOAT32, 2)))
    hit = apply("eq", Arg(INT32, 3), Coord(INT32, 1))
    if ignored is not None:
        hit = apply("and", hit, apply("ne", Arg(INT32, 3), ignored))
    if weighted:
        log = apply("mul", log, apply("to_float32", Coord(INT32, 1)))
    chosen = build.pointwise(apply("where", hit, log, const(0.0)), x, top, total, y)
    return Graph((Output("loss", "output", build.reduce("sum", chosen, (1,))),)), [x, y]


@pytest.mark.parametrize("options", [{}, {"ignored": 2}, {"weighted": True}])
def test_the_class_of_the_label_is_read(options: dict[str, Any]) -> None:
    graph, inputs = losses(**options)
    rng = np.random.default_rng(1)
    labels = np.array([[0], [6], [2], [-100], [7], [3]], np.int32)
    values = {"x": rng.standard_normal((6, CLASSES)).astype(np.float32), "y": labels}
    plan = schedule(graph, inputs, {})
    expected = run(graph, values, 6, np.float32)["loss"]
    got = execute(plan, feeds(6) | values, 6)["loss"]
    np.testing.assert_allclose(got.ravel(), expected.ravel(), rtol=1e-6)
    assert got.ravel()[3] == got.ravel()[4] == 0
    reductions = [r for step in plan.steps for stage in step.kernel.stages
                  if isinstance(stage, Accumulate) for r in stage.reductions]  # fmt: skip
    assert [r.kind for r in reductions] == ["max", "sum"]
