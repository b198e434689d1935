"""Bodies of kernels: the nodes of a fusion group as loops over scalar expressions.

A value that another group computes is loaded; everything else is pulled into the expression that
needs it, element by element, through views (index arithmetic) and pointwise nodes (expressions).
A reduction or contraction of the group itself is an accumulator, and may only be read at the
point of the outer loops that computed it; otherwise the group cannot be one kernel
(`NotFusibleError`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from hearth.ir.dim import Dim, Shape, product
from hearth.ir.dtype import BOOL, INT32
from hearth.ir.graph import (
    VIEW_OPS,
    Gather,
    Node,
    Pointwise,
    Recompute,
    Reduce,
    Reshape,
)
from hearth.ir.index import Index, Value, atom_index, axis, delinearize, linearize, mod
from hearth.ir.kernel import (
    Accumulate,
    Accumulator,
    Guard,
    IndexValue,
    InRange,
    Load,
    Reduction,
    Stage,
    Store,
    Template,
)
from hearth.ir.scalar import Apply, Arg, Const, Coord, Expr, apply, rewrite
from hearth.ir.walking import walk_kernel
from hearth.schedule import contractions
from hearth.schedule.frame import Frame
from hearth.schedule.storage import CONTRACTIONS, base_of, is_stored
from hearth.schedule.views import Coords, broadcast_coords, source_of

MAX_DEPTH = 120  # nodes behind nodes: emission calls itself, five times for each


class NotFusibleError(Exception):
    """The members of a group do not fit into one kernel."""


@dataclass
class Body:
    """The stages of a kernel under construction, and the values behind its parameters."""

    stages: list[Stage] = field(default_factory=list)
    params: list[Node] = field(default_factory=list)
    loads: dict[int, set[Index]] = field(default_factory=dict)  # param -> indices it is read at
    stores: dict[int, Index] = field(default_factory=dict)
    template: Template | None = None


class Emitter:
    """Emits one group; `key` is equal for nodes that share a buffer (an update and its state)."""

    def __init__(self, frame: Frame, members: Sequence[Node], roots: set[Node],
                 key: Callable[[Node], Hashable]) -> None:  # fmt: skip
        self.frame, self.members, self.roots, self.key = frame, list(members), roots, key
        self.body = Body()
        self.numbers: dict[Hashable, int] = {}
        self.accumulators: dict[Node, int] = {}
        self.memo: dict[tuple[Node, Coords, tuple[Guard, ...]], Expr] = {}
        self.is_recomputing = False
        self.depth = 0
        self.outer = tuple(axis(i, e) for i, e in enumerate(frame.outer))
        self.point = linearize(self.outer, frame.outer)

    def emit(self, stored: set[Node]) -> Body:
        """All accumulators in order, then the members that others read are written to memory."""
        for node in self.members:
            if isinstance(node.op, CONTRACTIONS):
                self.contract(node)
            elif isinstance(node.op, Reduce):
                self.reduce(node)
        stores = [self.store(node) for node in self.members if node in stored]
        self.body.stages += order_stores(stores)
        return self.body

    # ------------------------------------------------------------ stages

    def contract(self, node: Node) -> None:
        plan = contractions.plan(node, self.outer)
        operands = [self.load(x, index, plan_guards) for x, index, plan_guards in plan.reads]
        value = apply("mul", *operands)
        self.body.stages.append(Accumulate(plan.axes, (Reduction("sum", value),)))
        params = [self.param(base_of(x)) for x in node.inputs]
        self.body.template = contractions.template(node, params[0], params[1])
        self.accumulators[node] = len(self.accumulators)

    def reduce(self, node: Node) -> None:
        assert isinstance(node.op, Reduce)
        value = self.value(node.inputs[0], self.full_coords())
        reduction = Reduction(node.op.kind, value)
        axes = self.frame.inner
        last = self.body.stages[-1] if self.body.stages else None
        if isinstance(last, Accumulate) and last.axes == axes and self._is_independent(value, last):
            self.body.stages[-1] = Accumulate(axes, (*last.reductions, reduction))
        else:
            self.body.stages.append(Accumulate(axes, (reduction,)))
        self.accumulators[node] = len(self.accumulators)

    def store(self, node: Node) -> Store:
        if product(node.shape) == self.frame.points:
            axes: Shape = ()
            index = self.point
            coords = self._outer_coords(node)
        elif node.shape == self.frame.shape:
            axes, coords = self.frame.inner, self.full_coords()
            index = linearize(coords, node.shape)
        else:
            raise NotFusibleError
        value = self.value(node, coords)
        param = self.param(node)
        self.body.stores[param] = index
        return Store(axes, param, index, value)

    def full_coords(self) -> Coords:
        """A coordinate in the frame's shape: outer variables, then inner ones."""
        coords, next_inner = [], len(self.outer)
        outer = iter(self.outer)
        for i, extent in enumerate(self.frame.shape):
            if i in self.frame.kept:
                coords.append(next(outer))
            else:
                coords.append(axis(next_inner, extent))
                next_inner += 1
        return tuple(coords)

    def _outer_coords(self, node: Node) -> Coords:
        extents = [e for e in node.shape if e != Dim.of(1)]
        if extents == [e for e in self.frame.outer if e != Dim.of(1)]:
            variables = iter(v for v, e in zip(self.outer, self.frame.outer, strict=True)
                             if e != Dim.of(1))  # fmt: skip
            return tuple(Index() if e == Dim.of(1) else next(variables) for e in node.shape)
        return delinearize(self.point, node.shape)

    def _is_independent(self, value: Expr, stage: Accumulate) -> bool:
        first = len(self.accumulators) - len(stage.reductions)
        return not any(
            isinstance(e, Accumulator) and e.number >= first for e in walk_kernel([value])
        )

    # ------------------------------------------------------------ values

    def value(self, node: Node, coords: Coords, guards: tuple[Guard, ...] = ()) -> Expr:
        """The element of a node at a coordinate; guards say when it is needed at all."""
        memo_key = (node, coords, guards)
        if memo_key not in self.memo:
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise NotFusibleError
            self.memo[memo_key] = self._value(node, coords, guards)
            self.depth -= 1
        return self.memo[memo_key]

    def _value(self, node: Node, coords: Coords, guards: tuple[Guard, ...]) -> Expr:
        if node in self.accumulators:
            if linearize(coords, node.shape) != self.point:
                raise NotFusibleError
            return Accumulator(node.dtype, self.accumulators[node])
        if is_stored(node, self.roots) and node not in self.members:
            return self.load(node, linearize(coords, node.shape), guards)
        match node.op:
            case Pointwise():
                if node not in self.members or self._is_home(node, coords):
                    return self._pointwise(node, coords, guards)
                return self._recomputed(node, coords, guards)
            case Gather(axis=along):
                x, index = node.inputs
                chosen = self.value(index, coords, guards)
                if any(isinstance(e, Accumulator) for e in walk_kernel([chosen])):
                    raise NotFusibleError  # targets compute addresses ahead of the point
                position = Value(chosen, x.shape[along])
                at = (*coords[:along], atom_index(position), *coords[along + 1 :])
                return self.value(x, at, guards)
            case op if isinstance(op, VIEW_OPS):
                return self._view(node, coords, guards)
        raise NotFusibleError  # a reduction or contraction that is not computed yet

    def _is_home(self, node: Node, coords: Coords) -> bool:
        place = linearize(coords, node.shape)
        return place in (self.point, linearize(self.full_coords(), self.frame.shape))

    def _recomputed(self, node: Node, coords: Coords, guards: tuple[Guard, ...]) -> Expr:
        """A member's element of another point; not members behind members, which would multiply."""
        if self.is_recomputing:
            raise NotFusibleError
        self.is_recomputing = True
        value = self._pointwise(node, coords, guards)
        self.is_recomputing = False
        return value

    def _pointwise(self, node: Node, coords: Coords, guards: tuple[Guard, ...]) -> Expr:
        assert isinstance(node.op, Pointwise)

        def rule(expr: Expr) -> Expr:
            match expr:
                case Arg(position=position):
                    source = node.inputs[position]
                    return self.value(source, broadcast_coords(coords, source), guards)
                case Coord(axis=along):
                    index = linearize(coords, node.shape) if along is None else coords[along]
                    return IndexValue(expr.dtype, index)
            return expr

        return rewrite([node.op.expr], rule)[0]

    def _view(self, node: Node, coords: Coords, guards: tuple[Guard, ...]) -> Expr:
        (x,) = node.inputs
        if isinstance(node.op, Reshape | Recompute):
            base = base_of(node)
            if is_stored(base, self.roots) and base not in self.members:
                return self.load(base, linearize(coords, node.shape), guards)
        source = source_of(node, coords)
        if not source.guards:
            return self.value(x, source.coords, guards)
        inner = self.value(x, source.coords, guards + source.guards)
        fill = Const(node.dtype, source.fill)
        if isinstance(inner, Load) and inner.guards == source.guards:
            return Load(inner.dtype, inner.param, inner.index, inner.guards, source.fill)
        return apply("where", _condition(source.guards), inner, fill)

    def load(self, node: Node, index: Index, guards: tuple[Guard, ...] = ()) -> Load:
        param = self.param(base_of(node))
        self.body.loads.setdefault(param, set()).add(index)
        return Load(node.dtype, param, index, guards, 0)

    def param(self, node: Node) -> int:
        key = self.key(node)
        if key not in self.numbers:
            self.numbers[key] = len(self.body.params)
            self.body.params.append(node)
        return self.numbers[key]


def order_stores(stores: list[Store]) -> list[Store]:
    """What overwrites an operand comes after the other stores that still read its old value.

    Stores that read each other's targets keep their order; they cannot all overwrite.
    """
    waiting, ordered = list(stores), []
    while waiting:
        ready = next((s for s in waiting if not _is_read_by_others(s, waiting)), waiting[0])
        waiting.remove(ready)
        ordered.append(ready)
    return ordered


def _is_read_by_others(store: Store, stores: list[Store]) -> bool:
    return any(store.param in params_read(other) for other in stores if other is not store)


def params_read(store: Store) -> set[int]:
    return {e.param for e in walk_kernel([store.value]) if isinstance(e, Load)}


def _condition(guards: Sequence[Guard]) -> Expr:
    """All guards as one boolean."""
    terms = []
    for guard in guards:
        index = IndexValue(INT32, guard.index)
        if isinstance(guard, InRange):
            terms.append(apply("ge", index, 0))
            terms.append(apply("lt", index, IndexValue(INT32, Index.of(guard.extent))))
        else:
            remainder = IndexValue(INT32, mod(guard.index, guard.divisor))
            terms.append(apply("eq", remainder, 0))
    condition = terms[0]
    for term in terms[1:]:
        condition = Apply(BOOL, "and", (condition, term))
    return condition
