"""Which nodes hold values that a half can hold: an analysis, for roundings and for storage."""

from __future__ import annotations

from hearth.ir import build
from hearth.ir.dtype import HALVES
from hearth.ir.graph import VIEW_OPS, Gather, Node, Pad, Pointwise, Reduce, Window, WindowTranspose
from hearth.ir.scalar import Apply, Arg, Const, Expr, apply

ROUNDINGS = {f"round_{half}": half for half in HALVES}
_CHOOSING = ("neg", "abs", "maximum", "minimum", "where")  # the result is ± one of the operands
_ANY = "any"  # a few constants that every format holds


class Halves:
    """`half_of` each node, remembered; float16 and bfloat16 hold different numbers."""

    def __init__(self) -> None:
        self._known: dict[Node, str | None] = {}

    def half_of(self, node: Node) -> str | None:
        """Name "float16" or "bfloat16" where every element is such a number, else None."""
        chain: list[Node] = []
        while node not in self._known and isinstance(node.op, (*VIEW_OPS, Gather)):
            if isinstance(node.op, Pad | Window | WindowTranspose) and not _is_small(node.op.fill):
                self._known[node] = None
                break
            chain.append(node)
            node = node.inputs[0]
        if node not in self._known:
            self._known[node] = self._computed(node)
        for view in chain:
            self._known[view] = self._known[node]
        return self._known[node]

    def rounded(self, node: Node, half: str) -> Node:
        """The node with its elements rounded, which it may be already."""
        if self.half_of(node) == half:
            return node
        return build.pointwise(apply(f"round_{half}", Arg(node.dtype, 0)), node, origin=node.origin)

    def _computed(self, node: Node) -> str | None:
        match node.op:
            case Pointwise(expr=expr):
                half = self._of_expression(expr, node)
                return None if half == _ANY else half
            case Reduce(kind="max" | "min"):
                return self.half_of(node.inputs[0])
        return None

    def _of_expression(self, expr: Expr, node: Node) -> str | None:
        match expr:
            case Arg(position=position):
                return self.half_of(node.inputs[position])
            case Const(value=value):
                return _ANY if _is_small(value) else None
            case Apply(op=op) if op in ROUNDINGS:
                return ROUNDINGS[op]
            case Apply(op=op, args=args) if op in _CHOOSING:
                found = {self._of_expression(a, node) for a in args[op == "where" :]} - {_ANY}
                return found.pop() if len(found) == 1 else None if found else _ANY
        return None


def _is_small(value: float) -> bool:
    """A number that any floating-point format holds: a small integer, or an infinity."""
    return value in (float("inf"), float("-inf")) or (abs(value) <= 128 and value == int(value))
