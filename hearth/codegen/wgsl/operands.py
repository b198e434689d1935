"""How templates read an operand: four neighbours at a time, clamped at its end."""

from __future__ import annotations

from hearth.codegen.wgsl.body import Body
from hearth.codegen.wgsl.contraction import Operand
from hearth.codegen.wgsl.coordinates import Coordinates
from hearth.codegen.wgsl.term import Term
from hearth.codegen.wgsl.values import evaluate, vector

COMPONENTS = "xyzw"


def clamped_quad(body: Body, operand: Operand, text: str, depth: int, width: int) -> list[Term]:
    """Four neighbouring positions from `text` on, clamped to the operand's end.

    A position past the end computes a result that is not stored.  `width` is how many positions
    a workgroup covers: where it divides the size, none is past the end.
    """
    size = operand.size
    first = body.let(Term(text, depth), "at")
    if size.divided_by(width) is not None:
        return _neighbours(first)
    if size.divided_by(4) is not None:
        last = f"min({first.text}, {body.dim(size - 4).text})"
        return _neighbours(body.let(Term(last, depth), "at"))
    limit = body.dim(size - 1).text
    return [body.let(Term(f"min({t.text}, {limit})", depth), "at") for t in _neighbours(first)]


def load_quad(body: Body, operand: Operand, places: list[Coordinates]) -> str:
    """Four neighbours as one vec4; `places` has each of them."""
    if operand.is_vector:
        return vector(body, operand.value, places[0])
    values = [evaluate(body, [operand.value], place)[0] for place in places]
    return f"vec4<f32>({', '.join(value.text for value in values)})"


def _neighbours(first: Term) -> list[Term]:
    more = [Term(f"{first.text} + {i}u", first.depth, is_atomic=False) for i in (1, 2, 3)]
    return [first, *more]
