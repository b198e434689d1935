"""Sums of products in registers: one thread's block of results, read straight from memory.

The loops of the sum stay loops, so their indices need no division; several steps of the innermost
one are written out.  Operands come as vec4s where memory allows it, along the sum or along their
own axes, and are never transposed: what the two have in common decides how they are multiplied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from hearth.codegen.wgsl.contraction import Operand, Places
from hearth.codegen.wgsl.coordinates import Coordinates, Flat
from hearth.codegen.wgsl.operands import COMPONENTS
from hearth.codegen.wgsl.reads import VECTOR, Loaded, Place, Reader, Step, window_stride
from hearth.codegen.wgsl.term import Term
from hearth.ir.dim import Dim, product

MOST_STEPS = 8  # of the innermost loop, written out

Quads = Sequence[Sequence[Term]]  # positions along an operand, four neighbours at a time


@dataclass(frozen=True, slots=True)
class Share:
    """Which steps a thread takes: every `lanes`-th, from `lane` on."""

    lane: str = "0u"
    lanes: int = 1


class Sums:
    """The block of results at the positions `rows` times `columns`."""

    def __init__(
        self, places: Places, rows: Quads, columns: Quads, own_rows: Sequence[Term] = ()
    ) -> None:
        """With `own_rows` four threads that have the same rows read a quarter of them each.

        They are `quad_thread` 0 to 3 of a quad, and `own_rows` has one of each four rows.
        """
        self.places, self.body = places, places.body
        self.contraction, self.own_rows = places.contraction, own_rows
        self.rows, self.columns = rows, columns
        self.height, self.width = VECTOR * len(rows), VECTOR * len(columns)
        a, b = self.contraction.rows, self.contraction.columns
        # The axis along which four results are one vec4.
        self.along = "columns" if b.is_vector else "rows" if a.is_vector else ""
        self.names: list[list[str]] = []

    # ------------------------------------------------------------ the results

    def declare(self) -> None:
        """Fresh accumulators, all zero."""
        body, height, width = self.body, self.height, self.width
        if self.along == "columns":
            shape, zero = (height, width // VECTOR), "vec4<f32>()"
        elif self.along == "rows":
            shape, zero = (width, height // VECTOR), "vec4<f32>()"
        else:
            shape, zero = (height, width), "0.0"
        self.names = [[body.fresh("c") for _ in range(shape[1])] for _ in range(shape[0])]
        for name in (name for row in self.names for name in row):
            body.line(f"var {name} = {zero};")

    def result(self, row: int, column: int) -> str:
        if self.along == "columns":
            return f"{self.names[row][column // VECTOR]}.{COMPONENTS[column % VECTOR]}"
        if self.along == "rows":
            return f"{self.names[column][row // VECTOR]}.{COMPONENTS[row % VECTOR]}"
        return self.names[row][column]

    def vectors(self) -> list[str]:
        """The results as vec4s of neighbouring columns, row by row."""
        if self.along == "columns":
            return [name for row in self.names for name in row]
        return [
            f"vec4<f32>({', '.join(self.result(i, 4 * j + n) for n in range(VECTOR))})"
            for i in range(self.height)
            for j in range(self.width // VECTOR)
        ]

    # ------------------------------------------------------------ the sum

    def run(self, share: Share) -> None:
        """Adds this thread's share of the sum."""
        with self.steps(share) as steps:
            self.multiply(steps)

    @contextmanager
    def steps(self, share: Share) -> Iterator[list[Step]]:
        """The loops of the sum, and the steps that are written out inside."""
        body, depth = self.body, self.contraction.depth
        first = len(self.contraction.kernel.axes)
        *outer, last = depth or (Dim.of(1),)
        with ExitStack() as stack:
            flats: list[Flat] = []
            if share.lanes > 1 and outer:
                limit = body.dim(product(outer)).text
                at = stack.enter_context(body.range_loop(share.lane, limit, share.lanes))
                flats.append(Flat(tuple(range(first, first + len(outer))), tuple(outer), at))
                share = Share()
            else:
                for i, extent in enumerate(outer):
                    loop = stack.enter_context(body.loop(extent))
                    flats.append(Flat((first + i,), (extent,), loop))
            place = first + len(outer)
            inner = self.innermost(stack, last, share)
            yield [
                Step([*flats, Flat((place,), (last,), at)] if depth else flats, exists)
                for at, exists in inner
            ]

    def innermost(
        self, stack: ExitStack, extent: Dim, share: Share
    ) -> list[tuple[Term, str | None]]:
        """The positions along the innermost loop that are written out, and whether they exist."""
        body, count = self.body, _steps_at_once(extent)
        if share.lanes == 1 and extent == Dim.of(count):
            return [(Term(f"{i}u"), None) for i in range(count)]
        start = "0u" if share.lanes == 1 else f"{share.lane} * {count}u"
        k = stack.enter_context(body.range_loop(start, body.dim(extent).text, count * share.lanes))
        after = [Term(f"{k.text} + {i}u", k.depth, is_atomic=False) for i in range(1, count)]
        if extent.divided_by(count) is not None:
            return [(term, None) for term in (k, *after)]
        limit = body.dim(extent).text
        clamped = [body.let(Term(f"min({t.text}, {limit} - 1u)", t.depth), "k") for t in after]
        exist = [f"{term.text} < {limit}" for term in after]
        return [(k, None), *zip(clamped, exist, strict=True)]

    def multiply(self, steps: Sequence[Step]) -> None:
        load = self.load_together if self.own_rows else self.load
        a = load("a", self.contraction.rows, self.rows, steps, self.row_place)
        b = self.load("b", self.contraction.columns, self.columns, steps, self.column_place)
        if self.along == "columns":
            self.add_products(a.scalar, b.vector, len(steps))
        elif self.along == "rows":
            self.add_products(b.scalar, a.vector, len(steps))
        else:
            self.add_dots(a, b, len(steps))

    def add_products(
        self, scalar: Callable[[int, int], str], vec: Callable[[int, int], str], steps: int
    ) -> None:
        for i, row in enumerate(self.names):
            for j, name in enumerate(row):
                terms = (f"{scalar(i, s)} * {vec(j, s)}" for s in range(steps))
                self.body.line(f"{name} += {' + '.join(terms)};")

    def add_dots(self, a: Loaded, b: Loaded, steps: int) -> None:
        parts = [range(s, min(s + VECTOR, steps)) for s in range(0, steps, VECTOR)]
        left, right = (x.along_depth(self.body, parts) for x in (a, b))
        for i, row in enumerate(self.names):
            for j, name in enumerate(row):
                pairs = zip(left[i], right[j], parts, strict=True)
                terms = (f"{x} * {y}" if len(p) == 1 else f"dot({x}, {y})" for x, y, p in pairs)
                self.body.line(f"{name} += {' + '.join(terms)};")

    # ------------------------------------------------------------ operands

    def row_place(self, position: Term, depth: Sequence[Flat]) -> Coordinates:
        return self.places.at(row=position, depth=depth)

    def column_place(self, position: Term, depth: Sequence[Flat]) -> Coordinates:
        return self.places.at(column=position, depth=depth)

    def load_together(self, letter: str, operand: Operand, quads: Quads, steps: Sequence[Step],
                      place: Place) -> Loaded:  # fmt: skip
        """The same for rows that four threads share; each reads one of four rows or steps."""
        reader = Reader(self.body, letter, operand, steps, place)
        if operand.is_vector and len(steps) == VECTOR:
            return Loaded("axes", [reader.steps_together(quad[0]) for quad in quads])
        if operand.is_vector:
            return self.load(letter, operand, quads, steps, place)
        if operand.is_depth_vector and len(steps) == VECTOR:
            shared = [reader.broadcast(reader.deep(own)) for own in self.own_rows]
            return Loaded("depth", [[name] for names in shared for name in names])
        found = [[reader.broadcast(x) for x in reader.single(own)] for own in self.own_rows]
        return Loaded("", [[x[i] for x in row] for row in found for i in range(VECTOR)])

    def load(self, letter: str, operand: Operand, quads: Quads, steps: Sequence[Step],
             place: Place) -> Loaded:  # fmt: skip
        """All that these steps need of one operand, under names."""
        reader = Reader(self.body, letter, operand, steps, place)
        if operand.is_vector:
            return Loaded("axes", [reader.across(positions) for positions in quads])
        if operand.is_depth_vector and len(steps) == VECTOR:
            return Loaded("depth", [[reader.deep(p)] for quad in quads for p in quad])
        stride = window_stride(self.contraction, operand)
        if abs(stride) < len(steps) and all(step.exists is None for step in steps):
            return Loaded("", [names for quad in quads for names in reader.window(quad, stride)])
        return Loaded("", [reader.single(p) for quad in quads for p in quad])


def _steps_at_once(extent: Dim) -> int:
    """How many steps are written out: a divisor of the extent if there is a fitting one."""
    if extent.divided_by(VECTOR) is not None:
        return VECTOR
    if not extent.is_static:
        return VECTOR
    count = extent.static
    if count <= MOST_STEPS:
        return count
    return next((n for n in (8, 7, 6, 5, 3) if count % n == 0), VECTOR)
