"""What a contraction template does with a finished sum: the kernel's other stages."""

from __future__ import annotations

from hearth.codegen.wgsl.contraction import Places
from hearth.codegen.wgsl.term import Term
from hearth.codegen.wgsl.values import write_stores


def write_results(places: Places, row: Term, column: Term, value: str) -> None:
    """Store what becomes of the sum `value` at a position, if the position exists."""
    body, contraction = places.body, places.contraction
    tests, inside = [], []
    for term, operand in ((row, contraction.rows), (column, contraction.columns)):
        limit = body.dim(operand.size).text
        tests.append(f"{term.text} < {limit}")
        # What leaves this block is read past the end too: clamp it.
        inside.append(body.let(Term(f"min({term.text}, {limit} - 1u)", term.depth), "at"))
    with body.block(f"if ({' && '.join(tests)})"):
        name = body.fresh("sum")
        body.line(f"let {name} = {value};")
        at = places.at(row=inside[0], column=inside[1])
        write_stores(body, contraction.stores, at, [Term(name, body.depth)])
