"""Sums of products in registers: one thread's block of results, read straight from memory.

The loops of the sum stay loops, so their indices need no division; several steps of the innermost
one are written out.  Operands come as vec4s where memory allows it, along the sum or along their
own axes, and are never transposed: what the two have in common decides how they are multiplied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from hearth.codegen.wgsl.body import Body
from hearth.codegen.wgsl.contraction import Contraction, Operand, Places
from hearth.codegen.wgsl.coordinates import Coordinates, Flat
from hearth.codegen.wgsl.operands import COMPONENTS
from hearth.codegen.wgsl.rewrite import expressions, indices_of
from hearth.codegen.wgsl.term import Term
from hearth.codegen.wgsl.values import evaluate, vector
from hearth.ir.dim import Dim, product
from hearth.ir.index import Axis, depends_on

VECTOR = 4
MOST_STEPS = 8  # of the innermost loop, written out
APART = 1 << 30  # windows that do not overlap

Quads = Sequence[Sequence[Term]]  # positions along an operand, four neighbours at a time
Place = Callable[[Term, Sequence[Flat]], Coordinates]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the sum: its position, and the condition that it exists if that is not sure."""

    at: Sequence[Flat]
    exists: str | None = None

    def moved(self, steps: int) -> Step:
        """As many steps further along the innermost loop, past its ends if need be."""
        *outer, last = self.at
        text, depth = last.value.text, last.value.depth
        term = Term(f"{text} + {steps}u" if steps > 0 else f"{text} - {-steps}u", depth, False)
        return Step([*outer, replace(last, value=term)]) if steps else self


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

    def add_dots(self, a: _Loaded, b: _Loaded, steps: int) -> None:
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
                      place: Place) -> _Loaded:  # fmt: skip
        """The same for rows that four threads share; each reads one of four rows or steps."""
        reader = _Reader(self.body, letter, operand, steps, place)
        if operand.is_vector and len(steps) == VECTOR:
            return _Loaded("axes", [reader.steps_together(quad[0]) for quad in quads])
        if operand.is_vector:
            return self.load(letter, operand, quads, steps, place)
        if operand.is_depth_vector and len(steps) == VECTOR:
            shared = [reader.broadcast(reader.deep(own)) for own in self.own_rows]
            return _Loaded("depth", [[name] for names in shared for name in names])
        found = [[reader.broadcast(x) for x in reader.single(own)] for own in self.own_rows]
        return _Loaded("", [[x[i] for x in row] for row in found for i in range(VECTOR)])

    def load(self, letter: str, operand: Operand, quads: Quads, steps: Sequence[Step],
             place: Place) -> _Loaded:  # fmt: skip
        """All that these steps need of one operand, under names."""
        reader = _Reader(self.body, letter, operand, steps, place)
        if operand.is_vector:
            return _Loaded("axes", [reader.across(positions) for positions in quads])
        if operand.is_depth_vector and len(steps) == VECTOR:
            return _Loaded("depth", [[reader.deep(p)] for quad in quads for p in quad])
        stride = _window_stride(self.contraction, operand)
        if abs(stride) < len(steps) and all(step.exists is None for step in steps):
            return _Loaded("", [names for quad in quads for names in reader.window(quad, stride)])
        return _Loaded("", [reader.single(p) for quad in quads for p in quad])


@dataclass(frozen=True, slots=True)
class _Loaded:
    """Names of what was read of an operand.

    `kind` "axes": a vec4 of neighbours per quad and step; "depth": a vec4 of steps per position;
    "": a scalar per position and step.
    """

    kind: str
    names: list[list[str]]

    def scalar(self, position: int, step: int) -> str:
        match self.kind:
            case "axes":
                return f"{self.names[position // VECTOR][step]}.{COMPONENTS[position % VECTOR]}"
            case "depth":
                return f"{self.names[position][0]}.{COMPONENTS[step]}"
        return self.names[position][step]

    def vector(self, quad: int, step: int) -> str:
        assert self.kind == "axes"
        return self.names[quad][step]

    def along_depth(self, body: Body, parts: Sequence[range]) -> list[list[str]]:
        """Per position, the values of each part of the steps: a scalar, or a vector by name."""
        if self.kind == "depth":
            return self.names
        return [[_vector_of(body, [own[s] for s in part]) for part in parts] for own in self.names]


class _Reader:
    def __init__(self, body: Body, letter: str, operand: Operand, steps: Sequence[Step],
                 place: Place) -> None:  # fmt: skip
        self.body, self.letter, self.operand = body, letter, operand
        self.steps, self.place = steps, place

    def across(self, positions: Sequence[Term]) -> list[str]:
        """A vec4 of neighbours per step."""
        return [
            self._named(self._vector(positions[0], step), step, "vec4<f32>()")
            for step in self.steps
        ]

    def steps_together(self, position: Term) -> list[str]:
        """A vec4 of neighbours per step, of which every thread of a quad reads one."""
        first, last = self.steps[0], self.steps[-1]
        *outer, inner = first.at
        text = f"{inner.value.operand} + quad_thread"
        own = Term(text, inner.value.depth, is_atomic=False)
        step = Step([*outer, replace(inner, value=own)])
        if last.exists is not None:
            limit = self.body.dim(inner.shape[0]).text
            own = self.body.let(Term(f"min({text}, {limit} - 1u)", own.depth), "k")
            step = Step([*outer, replace(inner, value=own)], f"{text} < {limit}")
        return self.broadcast(self._named(self._vector(position, step), step, "vec4<f32>()"))

    def broadcast(self, value: str) -> list[str]:
        """What the four threads of a quad have under one name."""
        return [self._named(f"quadBroadcast({value}, {i}u)", Step(()), "") for i in range(VECTOR)]

    def deep(self, position: Term) -> str:
        """A vec4 of four steps."""
        return self._named(self._vector(position, self.steps[0]), Step(()), "")

    def single(self, position: Term) -> list[str]:
        """A scalar per step."""
        names = []
        for step in self.steps:
            place = self.place(position, step.at)
            value = evaluate(self.body, [self.operand.value], place)[0]
            names.append(self._named(value.text, step, "0.0"))
        return names

    def window(self, quad: Sequence[Term], stride: int) -> list[list[str]]:
        """Scalars per step, for four neighbours whose windows overlap: each is read once."""
        found: dict[int, str] = {}
        for moved in (stride * i + s for i in range(VECTOR) for s in range(len(self.steps))):
            if moved not in found:
                place = self.place(quad[0], self.steps[0].moved(moved).at)
                value = evaluate(self.body, [self.operand.value], place)[0]
                found[moved] = self._named(value.text, Step(()), "")
        return [[found[stride * i + s] for s in range(len(self.steps))] for i in range(VECTOR)]

    def _vector(self, position: Term, step: Step) -> str:
        return vector(self.body, self.operand.value, self.place(position, step.at))

    def _named(self, value: str, step: Step, zero: str) -> str:
        if step.exists is None and value.isidentifier():
            return value
        name = self.body.fresh(self.letter)
        if step.exists is not None:
            value = f"select({zero}, {value}, {step.exists})"
        self.body.line(f"let {name} = {value};")
        return name


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


def _vector_of(body: Body, values: Sequence[str]) -> str:
    if len(values) == 1:
        return values[0]
    name = body.fresh("v")
    body.line(f"let {name} = vec{len(values)}<f32>({', '.join(values)});")
    return name


def _window_stride(contraction: Contraction, operand: Operand) -> int:
    """How many steps of the innermost loop of the sum are one step along the operand's last axis.

    `APART` where they are not exchangeable, or where four neighbours may lie in two rows.
    """
    kernel, depth = contraction.kernel, contraction.depth
    if not operand.axes or not depth or kernel.axes[operand.axes[-1]].divided_by(VECTOR) is None:
        return APART
    across, along = operand.axes[-1], len(kernel.axes) + len(depth) - 1
    strides = set()
    for index in (i for e in expressions([operand.value]) for i in indices_of(e)):
        atoms = [atom for atom, _ in index.terms if not isinstance(atom, Axis)]
        if any(depends_on(atom, place) for atom in atoms for place in (across, along)):
            return APART
        pair = index.coefficient(across), index.coefficient(along)
        if pair != (Dim(), Dim()):
            strides.add(_ratio(*pair))
    return strides.pop() if len(strides) == 1 else APART


def _ratio(a: Dim | None, b: Dim | None) -> int:
    if a is None or b is None or not (a.is_static and b.is_static) or not b.static:
        return APART
    ratio, rest = divmod(a.static, b.static)
    return ratio if ratio and not rest else APART
