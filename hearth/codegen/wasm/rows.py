"""Rows that several stages of a kernel need: computed by the first, kept for the others.

The stages of a softmax all take the exponentials of one row.  They are computed while the first of
them runs, and lie in scratch memory (in the cache, that is) when the next one reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from hearth.codegen.wasm.canonical import Canonical
from hearth.ir.dim import product
from hearth.ir.dtype import ELEMENT_BYTES, FLOAT32
from hearth.ir.expr import Apply, Expr, walk
from hearth.ir.kernel import Kernel, Load, Stage
from hearth.ir.walking import stage_expressions

COSTLY = frozenset(("exp", "log", "tanh", "erf", "sin", "cos", "sqrt", "div"))
LONGEST_ROW = 16384
MOST_ROWS = 4


@dataclass(eq=False)
class KeptRows:
    """Where each kept expression lies, in bytes of scratch memory, and the stage that writes it."""

    offsets: dict[int, int] = field(default_factory=dict)  # by the id of a canonical expression
    written_by: dict[int, int] = field(default_factory=dict)
    size_bytes: int = 0

    @staticmethod
    def of(kernel: Kernel, canonical: Canonical) -> KeptRows:
        """Those of a kernel whose stages go along rows, in the order of their first use."""
        rows = KeptRows()
        stages_of: dict[int, set[int]] = {}
        for number, stage in enumerate(kernel.stages):
            for expr in _candidates(kernel, stage, canonical):
                stages = stages_of.setdefault(id(expr), set())
                stages.add(number)
                same = {product(kernel.stages[n].axes) for n in stages}
                is_new = len(stages) == 2 and len(same) == 1 and len(rows.offsets) < MOST_ROWS
                if is_new:
                    rows.offsets[id(expr)] = rows.size_bytes
                    rows.size_bytes += ELEMENT_BYTES * same.pop().static
        return rows


def _candidates(kernel: Kernel, stage: Stage, canonical: Canonical) -> Iterator[Expr]:
    """Costly values that differ along a row, of memory that the kernel leaves as it is."""
    count = product(stage.axes)
    if not stage.axes or not count.is_static or not 1 <= count.static <= LONGEST_ROW:
        return
    last = len(kernel.axes) + len(stage.axes) - 1
    for expr in walk(stage_expressions(stage)):
        is_costly = isinstance(expr, Apply) and expr.op in COSTLY and expr.dtype == FLOAT32
        if is_costly and last in canonical.axes_of(expr) and not _reads_written(expr, kernel):
            yield expr


def _reads_written(expr: Expr, kernel: Kernel) -> bool:
    return any(isinstance(e, Load) and kernel.params[e.param].is_written for e in walk([expr]))
