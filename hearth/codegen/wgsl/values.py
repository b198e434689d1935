"""Scalar expressions as WGSL, written into a `Body`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from hearth.codegen.wgsl.body import Body
from hearth.codegen.wgsl.coordinates import Coordinates
from hearth.codegen.wgsl.spelling import literal, row
from hearth.codegen.wgsl.term import Term
from hearth.ir.dim import Dim
from hearth.ir.dtype import BOOL, FLOAT32, INT32, UINT32
from hearth.ir.kernel import Accumulator, Guard, IndexValue, InRange, Load, Param, Store
from hearth.ir.scalar import Apply, BatchValue, Const, Expr, operands, walk
from hearth.ir.walking import walk_kernel

INLINE_CHARACTERS = 60  # longer expressions get a name
_CALL = re.compile(r"\w+\((\{\d\}(, )?)*\)")


def evaluate(
    body: Body, roots: Sequence[Expr], at: Coordinates, accumulators: Sequence[Term] = ()
) -> list[Term]:
    """The values of expressions at one point; what they share is computed once."""
    writer = _Writer(body, roots, at, accumulators)
    return [writer.term(root) for root in roots]


def write_stores(
    body: Body, stages: Sequence[Store], at: Coordinates, accumulators: Sequence[Term]
) -> None:
    """Stores at one point: all values first, since one may read what another overwrites."""
    values = evaluate(body, [stage.value for stage in stages], at, accumulators)
    for stage, value in zip(stages, values, strict=True):
        index = body.index(stage.index, at, _no_value)
        stored = stored_value(body.params[stage.param], value.text)
        body.line(f"p{stage.param}[{index.text}] = {stored};")


def stored_value(param: Param, value: str) -> str:
    """A value as memory takes it: a bool as 0 or 1; a half has been rounded before."""
    if param.is_half:
        return f"f16({value})"
    return f"i32({value})" if param.dtype == BOOL else value


def vector(body: Body, load: Expr, at: Coordinates) -> str:
    """Four neighbouring elements of a parameter that is bound as vec4s."""
    assert isinstance(load, Load)
    index = body.index(load.index, at, _no_value)
    text = f"p{load.param}[{index.operand} / 4u]"
    return f"vec4<f32>({text})" if body.params[load.param].is_half else text


def _no_value(_: Expr) -> Term:
    raise AssertionError("this index holds no computed values")


class _Writer:
    def __init__(
        self, body: Body, roots: Sequence[Expr], at: Coordinates, accumulators: Sequence[Term]
    ) -> None:
        self.body, self.at, self.accumulators = body, at, accumulators
        self.done: dict[Expr, Term] = {}
        self.uses = Counter(roots)
        for expr in walk_kernel(roots):
            self.uses.update(operands(expr))

    def term(self, root: Expr) -> Term:
        for expr in walk([root]):
            if expr not in self.done:
                self.done[expr] = self.write(expr)
        return self.done[root]

    def write(self, expr: Expr) -> Term:
        match expr:
            case Const():
                text = literal(expr.value, expr.dtype)
                return Term(text, 0, not text.startswith("-"))
            case BatchValue():
                return self.ratio(expr.numerator, expr.denominator)
            case Accumulator():
                return self.accumulators[expr.number]
            case IndexValue():
                return self.number(expr)
            case Load():
                return self.load(expr)
            case Apply():
                return self.apply(expr)
        raise AssertionError(f"{type(expr).__name__} does not belong in a kernel")

    def ratio(self, numerator: Dim, denominator: Dim) -> Term:
        if numerator.is_static and denominator.is_static:
            return Term(literal(numerator.static / denominator.static, FLOAT32))
        text = f"f32({self.body.dim(numerator).text}) / f32({self.body.dim(denominator).text})"
        return self.body.let(Term(text))

    def number(self, expr: IndexValue) -> Term:
        index = self.body.index(expr.index, self.at, self.term)
        text = {UINT32: "{}", INT32: "i32({})", FLOAT32: "f32(i32({}))"}[expr.dtype]
        return Term(text.format(index.text), index.depth, index.is_atomic or expr.dtype != UINT32)

    def load(self, load: Load) -> Term:
        index = self.body.index(load.index, self.at, self.term)
        if not load.guards:
            return self.body.let(self.element(load, index), "x")
        inside = self.inside(load.guards)
        depth = max(index.depth, inside.depth)
        # Outside, element 0 is read and dropped: a select is cheaper than a branch.
        safe = self.body.let(Term(f"select(0u, {index.text}, {inside.text})", depth), "at")
        element = self.element(load, safe)
        fill = literal(load.fill, load.dtype)
        return self.body.let(Term(f"select({fill}, {element.text}, {inside.text})", depth), "x")

    def element(self, load: Load, index: Term) -> Term:
        name = f"p{load.param}"
        if load.param in self.body.vectors:
            at = self.body.let(index, "at").text if not index.is_atomic else index.text
            text = f"{name}[{at} / 4u][{at} % 4u]"
        else:
            text = f"{name}[{index.text}]"
        if self.body.params[load.param].is_half:
            text = f"f32({text})"
        return Term(f"{text} != 0" if load.dtype == BOOL else text, index.depth)

    def inside(self, guards: Sequence[Guard]) -> Term:
        parts = []
        depth = 0
        for guard in guards:
            index = self.body.index(guard.index, self.at, self.term)
            depth = max(depth, index.depth)
            if isinstance(guard, InRange):
                parts.append(f"{index.operand} < {self.body.dim(guard.extent).text}")
            else:
                parts.append(f"{index.operand} % {guard.divisor}u == 0u")
        # `&&` would be a branch each: drivers take seconds to compile hundreds of them.
        text = parts[0] if len(parts) == 1 else " & ".join(f"({part})" for part in parts)
        return self.body.let(Term(text, depth), "is_inside")

    def apply(self, expr: Apply) -> Term:
        template = row(expr.op, expr.args[-1].dtype)
        assert template is not None, f"{expr.op} was not expanded"
        terms = [self.done[a] for a in expr.args]
        depth = max((t.depth for t in terms), default=0)
        terms = [self.body.hoist(t, depth) for t in terms]
        terms = [
            self.body.let(t) if template.count(f"{{{i}}}") > 1 and not t.is_atomic else t
            for i, t in enumerate(terms)
        ]
        is_call = _CALL.fullmatch(template) is not None
        text = template.format(*(t.text if is_call else t.operand for t in terms))
        term = Term(text, depth, is_call)
        is_shared = self.uses[expr] > 1 or len(text) > INLINE_CHARACTERS
        return self.body.let(term) if is_shared else term
