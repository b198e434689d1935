"""Matrix products; a transposed operand is a view, which `passes/absorb_transposes.py` absorbs."""

from __future__ import annotations

from hearth.capture.graph import AtenNode
from hearth.ir import build
from hearth.ir.graph import Node
from hearth.lowering.rules import lowers


@lowers("aten.mm.default", "aten.bmm.default")
def _matrix_product(site: AtenNode, a: Node, b: Node) -> Node:
    return build.dot(a, b, origin=site.origin)
