"""What a block of sums reads of an operand: vec4s, scalars, overlapping windows, shares of a quad.

A thread reads its block's operands under names; what neighbours have in common is read once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hearth.codegen.wgsl.body import Body
from hearth.codegen.wgsl.contraction import Contraction, Operand
from hearth.codegen.wgsl.coordinates import Coordinates, Flat
from hearth.codegen.wgsl.operands import COMPONENTS
from hearth.codegen.wgsl.term import Term
from hearth.codegen.wgsl.values import evaluate, vector
from hearth.ir.dim import Dim
from hearth.ir.index import Axis, depends_on
from hearth.ir.walking import indices_of, walk_kernel

VECTOR = 4
APART = 1 << 30  # windows that do not overlap

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
class Loaded:
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


class Reader:
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


def _vector_of(body: Body, values: Sequence[str]) -> str:
    if len(values) == 1:
        return values[0]
    name = body.fresh("v")
    body.line(f"let {name} = vec{len(values)}<f32>({', '.join(values)});")
    return name


def window_stride(contraction: Contraction, operand: Operand) -> int:
    """How many steps of the innermost loop of the sum are one step along the operand's last axis.

    `APART` where they are not exchangeable, or where four neighbours may lie in two rows.
    """
    kernel, depth = contraction.kernel, contraction.depth
    if not operand.axes or not depth or kernel.axes[operand.axes[-1]].divided_by(VECTOR) is None:
        return APART
    across, along = operand.axes[-1], len(kernel.axes) + len(depth) - 1
    strides = set()
    for index in (i for e in walk_kernel([operand.value]) for i in indices_of(e)):
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
