"""Which values a half can hold, and that nothing is rounded twice."""

from __future__ import annotations

import pytest

from hearth.ir import build
from hearth.ir.dim import shape_of
from hearth.ir.graph import Node
from hearth.ir.halves import Halves
from hearth.ir.scalar import Arg, Expr, apply

X = build.input_node("x", "input", shape_of((3, 4)), "float32")
A = Arg("float32", 0)


def of(expr: Expr, node: Node = X) -> Node:
    return build.pointwise(expr, node)


ROUNDED = of(apply("round_float16", A))


@pytest.mark.parametrize(
    ("node", "half"),
    [
        (X, None),
        (ROUNDED, "float16"),
        (of(apply("round_bfloat16", A), ROUNDED), "bfloat16"),
        (build.reshape(ROUNDED, shape_of((12,))), "float16"),
        (build.reduce("max", ROUNDED, (1,)), "float16"),
        (build.reduce("sum", ROUNDED, (1,)), None),
        (of(apply("maximum", A, 0.0), ROUNDED), "float16"),
        (of(apply("maximum", A, 0.1), ROUNDED), None),
        (of(apply("neg", A), ROUNDED), "float16"),
        (of(apply("mul", A, 2.0), ROUNDED), None),
        (of(apply("where", apply("gt", A, 0.3), A, 0.0), ROUNDED), "float16"),
        (of(apply("where", apply("gt", A, 0.3), A, 0.0)), None),
        (build.pad(ROUNDED, (1, 0), shape_of((5, 4)), 0.0), "float16"),
        (build.pad(ROUNDED, (1, 0), shape_of((5, 4)), 0.1), None),
    ],
)
def test_a_half_is_known_through_views_and_choices(node: Node, half: str | None) -> None:
    assert Halves().half_of(node) == half


def test_what_is_a_half_is_not_rounded_again() -> None:
    halves = Halves()
    view = build.reshape(ROUNDED, shape_of((12,)))
    assert halves.rounded(view, "float16") is view
    assert halves.rounded(view, "bfloat16") is not view
    assert halves.half_of(halves.rounded(X, "float16")) == "float16"
