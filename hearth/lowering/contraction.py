"""Matrix products: a transposed operand becomes a flag, so that no copy is ever needed."""

from __future__ import annotations

from hearth.capture.graph import AtenNode
from hearth.ir import build
from hearth.ir.graph import Node, Permute
from hearth.lowering.rules import lowers


@lowers("aten.mm.default", "aten.bmm.default")
def _matrix_product(site: AtenNode, a: Node, b: Node) -> Node:
    (a, transpose_a), (b, transpose_b) = _untransposed(a), _untransposed(b)
    return build.dot(a, b, transpose_a, transpose_b, site.origin)


def _untransposed(x: Node) -> tuple[Node, bool]:
    """The source of a node that only swaps the last two axes, and whether it was one."""
    rank = len(x.shape)
    swapped = (*range(rank - 2), rank - 1, rank - 2)
    if isinstance(x.op, Permute) and x.op.order == swapped:
        return x.inputs[0], True
    return x, False
