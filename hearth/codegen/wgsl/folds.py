"""Reductions in progress: the variables they need, and how values and partial results go in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hearth.codegen.wgsl.body import Body
from hearth.codegen.wgsl.spelling import FOLDS, NOWHERE, POSITIONED, TYPES, literal, row
from hearth.codegen.wgsl.term import Term
from hearth.ir.dtype import FLOAT32, INT32
from hearth.ir.kernel import Reduction


@dataclass(frozen=True, slots=True)
class Partial:
    """The variables of one reduction: its value, and for argmax and argmin where it is."""

    kind: str
    dtype: str  # of the values that are reduced
    value: str
    position: str | None

    @property
    def variables(self) -> list[tuple[str, str]]:
        """Names and WGSL types."""
        out = [(self.value, TYPES[self.dtype])]
        return [*out, (self.position, TYPES[INT32])] if self.position else out

    @property
    def result(self) -> str:
        return self.position or self.value

    def add(self, body: Body, value: str, position: str | None) -> None:
        """Take in an element, or another partial result."""
        if self.position is None:
            template = row(FOLDS[self.kind].combine, self.dtype)
            assert template is not None
            body.line(f"{self.value} = {template.format(self.value, value)};")
            return
        assert position is not None
        condition = self._precedes(value, position)
        update = f"{self.value} = {value}; {self.position} = {position};"
        body.line(f"if ({condition}) {{ {update} }}")

    def _precedes(self, value: str, position: str) -> str:
        base, function = POSITIONED[self.kind]
        if self.dtype == FLOAT32:
            return f"{function}({value}, {position}, {self.value}, {self.position})"
        sign = ">" if base == "max" else "<"
        ties = f"{value} == {self.value} && {position} < {self.position}"
        return f"{value} {sign} {self.value} || ({ties})"


def declare(body: Body, reductions: Sequence[Reduction]) -> list[Partial]:
    """Fresh variables for reductions, at their neutral values."""
    return [_declare(body, r.kind, r.value.dtype) for r in reductions]


def _declare(body: Body, kind: str, dtype: str) -> Partial:
    base = POSITIONED[kind][0] if kind in POSITIONED else kind
    start = literal(FOLDS[base].start[dtype], dtype)
    value = body.fresh("sum" if kind == "sum" else kind)
    body.line(f"var {value}: {TYPES[dtype]} = {start};")
    if kind not in POSITIONED:
        return Partial(kind, dtype, value, None)
    position = f"{value}_at"
    body.line(f"var {position}: i32 = {NOWHERE};")
    return Partial(kind, dtype, value, position)


def add_values(body: Body, into: Sequence[Partial], values: Sequence[Term], position: Term) -> None:
    """Take in one element each; `position` is its row-major number."""
    for partial, value in zip(into, values, strict=True):
        # A partial's value is read twice by argmax: name it.
        named = value if partial.position is None or value.is_atomic else body.let(value)
        at = f"i32({position.text})" if partial.position else None
        partial.add(body, named.operand, at)


def merge(body: Body, into: Sequence[Partial], parts: Sequence[Partial]) -> None:
    for partial, part in zip(into, parts, strict=True):
        partial.add(body, part.value, part.position)
