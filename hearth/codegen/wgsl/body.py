"""The inside of a WGSL function under construction: nested blocks and named values.

A value is written in the outermost block where its operands exist, and once per block: invariants
leave the loops by construction, and equal expressions share a name.

Index arithmetic is unsigned and wraps around, so a negative coordinate is larger than every extent
and a range check is one comparison.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

from hearth.codegen.wgsl.coordinates import Coordinates, Flat
from hearth.codegen.wgsl.library import FUNCTIONS
from hearth.codegen.wgsl.term import Term
from hearth.ir.dim import Dim
from hearth.ir.index import Axis, FloorDiv, Index, Mod, Value, bounds
from hearth.ir.kernel import Param
from hearth.ir.scalar import Expr

INDENT = "  "


Evaluate = Callable[[Expr], Term]


@dataclass(slots=True)
class _Block:
    lines: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)  # expression -> the `let` that holds it


class Body:
    """The lines of `main`.  `vectors` are the parameters bound as arrays of vec4."""

    def __init__(self, params: tuple[Param, ...], vectors: frozenset[int] = frozenset()) -> None:
        self.params, self.vectors = params, vectors
        self.functions: set[str] = set()  # of the library
        self.needs_subgroups = False  # and `subgroup_size`, and a thread's number in its own
        self.workgroup_arrays: dict[str, tuple[str, int]] = {}  # name -> type, elements
        self._blocks = [_Block()]
        self._counts: dict[str, int] = {}

    @property
    def depth(self) -> int:
        return len(self._blocks) - 1

    @property
    def lines(self) -> list[str]:
        assert not self.depth, "a block is still open"
        return self._blocks[0].lines

    def line(self, text: str) -> None:
        self._note_calls(text)
        self._blocks[-1].lines.append(text)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self._note_calls(head)
        self._blocks.append(_Block())
        yield
        lines = self._blocks.pop().lines
        self._blocks[-1].lines += [f"{head} {{", *(INDENT + line for line in lines), "}"]

    def block_if(self, condition: str | None) -> AbstractContextManager[None]:
        """A block for when a condition holds; none where there is no condition."""
        return nullcontext() if condition is None else self.block(f"if ({condition})")

    @contextmanager
    def loop(self, extent: Dim) -> Iterator[Term]:
        """A loop over 0..extent; the variable's term."""
        with self.range_loop("0u", self.dim(extent).text, 1) as term:
            yield term

    @contextmanager
    def range_loop(self, start: str, limit: str, step: int) -> Iterator[Term]:
        """A loop from `start` to before `limit`; the variable's term."""
        name = self.fresh("j")
        advance = f"{name}++" if step == 1 else f"{name} += {step}u"
        with self.block(f"for (var {name} = {start}; {name} < {limit}; {advance})"):
            yield Term(name, self.depth)

    def fresh(self, prefix: str) -> str:
        number = self._counts.get(prefix, 0)
        self._counts[prefix] = number + 1
        return f"{prefix}{number}"

    def let(self, term: Term, prefix: str = "v") -> Term:
        """The term under a name, in the outermost block that it allows."""
        block = self._blocks[term.depth]
        if term.text not in block.names:
            self._note_calls(term.text)
            block.names[term.text] = self.fresh(prefix)
            block.lines.append(f"let {block.names[term.text]} = {term.text};")
        return Term(block.names[term.text], term.depth)

    def hoist(self, term: Term, depth: int) -> Term:
        """The term for use at a depth; a compound one that belongs further out is named there."""
        return term if term.is_atomic or term.depth >= depth else self.let(term)

    # ------------------------------------------------------------ sizes and indices

    def coordinates(self, flats: Iterable[Flat]) -> Coordinates:
        return Coordinates(flats, self.let, self.dim)

    def dim(self, dim: Dim) -> Term:
        """A size, as u32."""
        if dim.is_static:
            return Term(f"{dim.static & 0xFFFFFFFF}u")
        powers = [(c, " * ".join("B" * k)) for k, c in enumerate(dim.coefficients) if c]
        parts = [
            (
                c > 0,
                " * ".join(filter(None, [power, f"{abs(c)}u" if abs(c) > 1 or not power else ""])),
            )
            for c, power in reversed(powers)
        ]
        text = _sum(parts)
        return Term(text) if text == "B" else self.let(Term(text), "size")

    def index(self, index: Index, at: Coordinates, evaluate: Evaluate) -> Term:
        """An index, as u32; what belongs to outer blocks is summed there."""
        by_depth: dict[int, list[tuple[bool, str]]] = {}
        index, runs = at.take_runs(index)
        for term, factor in runs:
            is_positive, text, depth = self._scaled(term, factor)
            by_depth.setdefault(depth, []).append((is_positive, text))
        for atom, coefficient in index.terms:
            term = self._atom(atom, at, evaluate)
            is_positive, text, depth = self._scaled(term, coefficient)
            by_depth.setdefault(depth, []).append((is_positive, text))
        constant = index.constant
        if not constant.is_static:
            by_depth.setdefault(0, []).append((True, self.dim(constant).text))
            constant = Dim()
        return self._summed(by_depth, constant.static)

    def _summed(self, by_depth: dict[int, list[tuple[bool, str]]], constant: int) -> Term:
        depths = sorted(by_depth) or [0]
        outer: list[tuple[bool, str]] = []
        for depth in depths[:-1]:
            text = _sum(outer + by_depth[depth])
            named = text if text.isidentifier() else self.let(Term(text, depth), "at").text
            outer = [(True, named)]
        parts = outer + by_depth.get(depths[-1], [])
        if constant:
            parts.append((constant > 0, f"{abs(constant)}u"))
        text = _sum(parts)
        return Term(text, depths[-1], re.fullmatch(r"\w+", text) is not None)

    def _scaled(self, term: Term, coefficient: Dim) -> tuple[bool, str, int]:
        is_positive = not (-coefficient).is_at_least(0)
        factor = coefficient if is_positive else -coefficient
        if factor == Dim.of(1):
            return is_positive, term.text if is_positive else term.operand, term.depth
        return is_positive, f"{term.operand} * {self.dim(factor).text}", term.depth

    def _atom(
        self, atom: Axis | FloorDiv | Mod | Value, at: Coordinates, evaluate: Evaluate
    ) -> Term:
        match atom:
            case Axis():
                return at.at(atom.position)
            case Value():
                return self.let(Term(f"u32({evaluate(atom.expr).text})", evaluate(atom.expr).depth))
            case FloorDiv() | Mod():
                return self._quotient(atom, at, evaluate)

    def _quotient(self, atom: FloorDiv | Mod, at: Coordinates, evaluate: Evaluate) -> Term:
        """Rounded down for negative numbers too, by a multiple of the divisor added before."""
        limits = bounds(atom.numerator)
        low, divisor = limits[0] if limits else None, atom.divisor
        is_quotient = isinstance(atom, FloorDiv)
        if low is None or not (low.is_at_least(0) or (low.is_static and divisor.is_static)):
            numerator = self.index(atom.numerator, at, evaluate)
            function = "floor_quotient" if is_quotient else "floor_rest"
            call = f"{function}(i32({numerator.text}), i32({self.dim(divisor).text}))"
            return self.let(Term(f"u32({call})", numerator.depth), "q")
        lift = 0 if low.is_at_least(0) else -(low.static // divisor.static)
        numerator = self.index(atom.numerator + divisor * lift, at, evaluate)
        text = f"{numerator.operand} {'/' if is_quotient else '%'} {self.dim(divisor).text}"
        if lift and is_quotient:
            text += f" - {lift}u"
        return self.let(Term(text, numerator.depth, is_atomic=False), "q")

    def _note_calls(self, text: str) -> None:
        self.functions.update(name for name in re.findall(r"\w+(?=\()", text) if name in FUNCTIONS)


def _sum(parts: list[tuple[bool, str]]) -> str:
    """A sum with signs, positive terms first: unsigned literals cannot be negative."""
    ordered = [t for is_positive, t in parts if is_positive]
    negative = [t for is_positive, t in parts if not is_positive]
    return " - ".join([" + ".join(ordered) or "0u", *negative])
