"""Graph -> kernels, buffers and slots: the whole schedule of one program.

copy_borrowed_outputs  what needs memory of its own  (borrowed.py)
choose_roots           what is stored                (roots.py, hoist.py)
fuse                   who shares a kernel           (fuse.py)
place_update           who overwrites its state      (order.py)
order_groups           when each kernel runs         (order.py)
drops                  what is computed again        (recompute.py), where there is a limit
allocate               where values live             (allocate.py)
kernel_of              what each kernel does         (emit.py, kernels.py)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hearth.ir import build
from hearth.ir.dim import Dim, Shape, product
from hearth.ir.dtype import ELEMENT_BYTES, HALF_BYTES
from hearth.ir.graph import Constant, Graph, Input, Node, Pack
from hearth.ir.halves import Halves
from hearth.ir.kernel import Kernel
from hearth.ir.rewriting import exchange_nodes
from hearth.ir.scalar import Arg
from hearth.schedule.allocate import Allocation, Lifetime, allocate
from hearth.schedule.borrowed import copy_borrowed_outputs
from hearth.schedule.emit import MAX_DEPTH, Emitter
from hearth.schedule.frame import frame_of
from hearth.schedule.fuse import MAX_PARAMS, Fusion, Group, fuse, input_name
from hearth.schedule.hoist import hoist_derivatives
from hearth.schedule.kernels import kernel_of
from hearth.schedule.lifetimes import Timeline, Work, in_order, lives_of
from hearth.schedule.order import order_groups, overlaps, place_update
from hearth.schedule.recompute import Waiting, drops, rewritten
from hearth.schedule.roots import choose_roots, limit_depth, limit_operands
from hearth.schedule.storage import base_of

TRIES = 4  # schedules with recomputation, for a limit


@dataclass(frozen=True, slots=True)
class Limit:
    """At most that many bytes in slots for a batch size."""

    batch: int
    slot_bytes: int


@dataclass(frozen=True, slots=True)
class StatePlace:
    """Memory in the state region, in bytes."""

    offset: int
    size_bytes: int

    @property
    def extent(self) -> tuple[int, int]:
        return self.offset, self.offset + self.size_bytes


@dataclass(frozen=True, slots=True)
class SlotPlace:
    slot: int


@dataclass(frozen=True, slots=True)
class Buffer:
    dtype: str
    shape: Shape
    place: StatePlace | SlotPlace
    is_half: bool = False  # all elements are float16 numbers


@dataclass(frozen=True, slots=True)
class Step:
    kernel: Kernel
    buffers: tuple[Buffer, ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    steps: tuple[Step, ...]
    inputs: Mapping[str, Buffer]  # data and hyper-parameters by name; state is not listed
    outputs: Mapping[str, Buffer]  # by output name; updates of state are not listed
    allocation: Allocation  # of the slots

    def slot_bytes(self, batch: int) -> int:
        """What all slots take for a batch size."""
        return self.allocation.bytes_at(batch)


def schedule(
    graph: Graph,
    inputs: Sequence[Node],
    state: Mapping[str, StatePlace],
    limit: Limit | None = None,
) -> Schedule:
    """Schedule a program.

    Args:
        graph: outputs of role `update` give the state entry of their name its next value.
        inputs: the program's data inputs, used or not, in order.
        state: where every state entry, constant and workspace lies.
        limit: values are computed again instead of kept until the slots fit, or as nearly as can
            be.

    """
    by_name = {input_name(node): node for node in [*graph.inputs, *inputs]}
    one_each = exchange_nodes(graph, {node: by_name[input_name(node)] for node in graph.inputs})
    graph = copy_borrowed_outputs(one_each)
    plan, timeline = _schedule(graph, inputs, state)
    if limit is None or plan.slot_bytes(limit.batch) <= limit.slot_bytes:
        return plan
    return _with_recomputation(plan, timeline, limit, lambda g: _schedule(g, inputs, state)[0])


def _schedule(
    graph: Graph, inputs: Sequence[Node], state: Mapping[str, StatePlace]
) -> tuple[Schedule, Timeline]:
    scheduler = _Scheduler(graph, inputs, state, updates_in_place=True)
    plan = scheduler.run()
    if any(len(step.buffers) > MAX_PARAMS for step in plan.steps):
        # Some update had to be copied after all, and its kernel needs one buffer too many.
        scheduler = _Scheduler(graph, inputs, state, updates_in_place=False)
        plan = scheduler.run()
    return plan, scheduler.timeline()


def _with_recomputation(
    plan: Schedule, timeline: Timeline, limit: Limit, again: Callable[[Graph], Schedule]
) -> Schedule:
    """The first schedule on the path of `drops` whose slots fit, or the smallest that was seen."""
    waiting = Waiting(timeline, limit.batch)
    path = list(drops(waiting))
    wanted, best = limit.slot_bytes, plan
    for _ in range(TRIES):
        least = min(path, key=lambda choice: choice.profile.peak)
        choice = next((c for c in path if c.profile.peak <= wanted), least)
        plan = again(rewritten(waiting, choice.kept))
        best = min(best, plan, key=lambda p: p.slot_bytes(limit.batch))
        excess = plan.slot_bytes(limit.batch) - limit.slot_bytes
        if excess <= 0 or choice is least:
            break
        wanted = choice.profile.peak - excess  # slots take somewhat more than what is alive
    return best


class _Scheduler:
    def __init__(
        self,
        graph: Graph,
        inputs: Sequence[Node],
        state: Mapping[str, StatePlace],
        updates_in_place: bool,
    ) -> None:
        self.graph, self.inputs, self.state = graph, list(inputs), state
        # Views between the nodes, and fused members, may double the depth.
        roots = hoist_derivatives(graph, choose_roots(graph))
        roots = limit_depth(graph, roots, MAX_DEPTH // 2)
        self.roots = limit_operands(graph, roots, MAX_PARAMS)
        self.fusion: Fusion = fuse(graph, self.roots, updates_in_place)
        self.groups = list(self.fusion.groups)
        self.places: dict[Node, StatePlace | SlotPlace] = {}
        self.halves: set[Node] = set()  # stored values that are float16 numbers
        self._place_state()
        self._place_updates()
        self.ordered = order_groups(self.groups)

    def run(self) -> Schedule:
        ordered = self.ordered
        stored = {group: self._stored(group) for group in ordered}
        allocation = self._allocate()
        steps = tuple(self._step(g, stored[g]) for g in ordered if not _is_empty(g))
        outputs = {
            o.name: self._buffer(base_of(o.node), o.node.shape)
            for o in self.graph.outputs
            if o.role != "update"
        }
        inputs = {input_name(node): self._buffer(node) for node in self.inputs}
        return Schedule(steps, inputs, outputs, allocation)

    # ------------------------------------------------------------ state

    def _place_state(self) -> None:
        for node in self.graph.nodes:
            if isinstance(node.op, Input | Constant) and node.op.name in self.state:
                self.places[node] = self.state[node.op.name]
            if isinstance(node.op, Pack):
                block = self.state[node.op.name]
                self.places[node] = block
                for part, offset in zip(node.inputs, node.op.offsets, strict=True):
                    size = product(part.shape).static
                    start = block.offset + ELEMENT_BYTES * offset
                    self.places[base_of(part)] = StatePlace(start, ELEMENT_BYTES * size)
        for output in self.graph.outputs:
            workspace = self.state.get(f"gradient/{output.name}")
            if output.role == "gradient" and workspace is not None:
                # Where a training step has them too: they take no memory of their own.
                self.places[base_of(output.node)] = workspace

    def _place_updates(self) -> None:
        offsets = {
            node: place.extent
            for node, place in self.places.items()
            if isinstance(place, StatePlace) and isinstance(node.op, Input)
        }
        outputs = [o for o in self.graph.outputs if o.role == "update"]
        for output in outputs:
            node, place = base_of(output.node), self.state[output.name]
            writer = self.fusion.group_of[node]
            states = overlaps(offsets, place.extent)
            body, param = self.fusion.emit_overwriting(writer, node)
            if place_update(writer, body, param, states, self.groups):
                self.places[node] = place
            else:
                self._copy_later(node, place, states)

    def _copy_later(self, node: Node, place: StatePlace, states: list[Node]) -> None:
        copy = build.pointwise(Arg(node.dtype, 0), node, origin=node.origin)
        self.roots.add(copy)
        readers = {g for g in self.groups if not g.reads.isdisjoint(states)}
        group = Group(frame_of(copy), [copy], {self.fusion.group_of[node], *readers}, {node})
        self.fusion.group_of[copy] = group
        self.fusion.readers.setdefault(node, set()).add(copy)
        self.fusion.outputs.add(copy)
        self.groups.append(group)
        self.places[copy] = place

    # ------------------------------------------------------------ memory

    def _stored(self, group: Group) -> set[Node]:
        return self.fusion.stored(group.members)

    def timeline(self) -> Timeline:
        """What each kernel reads and computes, for decisions about memory."""
        nodes = [*self.inputs, *self.graph.nodes, *(n for g in self.ordered for n in g.members)]
        position = {node: k for k, node in enumerate(dict.fromkeys(nodes))}
        works = [
            Work(tuple(g.members), in_order(g.reads.difference(g.members), position))
            for g in self.ordered
        ]
        in_state = {n for n, place in self.places.items() if isinstance(place, StatePlace)}
        bases = {o: base_of(o.node) for o in self.graph.outputs}
        return Timeline(
            graph=self.graph,
            works=works,
            roots=self.roots,
            loads={n: in_order(self.fusion.loads[n], position) for n in self.fusion.group_of
                   if n in self.fusion.loads},
            stored={n for g in self.ordered for n in self._stored(g)},
            inputs=[node for node in self.inputs if node not in in_state],
            in_state=in_state,
            outputs=set(bases.values()),
            losses={base for o, base in bases.items() if o.role == "loss"},
        )  # fmt: skip

    def _allocate(self) -> Allocation:
        timeline = self.timeline()
        lives = lives_of(timeline, timeline.works)
        halves = Halves()
        kept = {*timeline.outputs, *self.inputs}  # the host knows them as float32
        nodes = [life.node for life in lives]
        self.halves = {n for n in nodes if n not in kept and halves.half_of(n) == "float16"}
        allocation = allocate([self._lifetime(v.node, v.first, v.last) for v in lives])
        for node in nodes:
            self.places[node] = SlotPlace(allocation.slot_of[node])
        return allocation

    def _lifetime(self, node: Node, first: int, last: int) -> Lifetime:
        count = product(node.shape)
        half_bytes = count * HALF_BYTES if node in self.halves else None
        return Lifetime(node, count * ELEMENT_BYTES, first, last, half_bytes)

    def _buffer(self, node: Node, shape: Shape | None = None) -> Buffer:
        shape = shape if shape is not None else node.shape
        return Buffer(node.dtype, shape, self.places[node], node in self.halves)

    # ------------------------------------------------------------ kernels

    def _step(self, group: Group, stored: set[Node]) -> Step:
        body = Emitter(group.frame, group.members, self.roots, key=self._key).emit(stored)
        kernel = kernel_of(group, body, self.halves)
        return Step(kernel, tuple(self._buffer(node) for node in body.params))

    def _key(self, node: Node) -> object:
        place = self.places.get(node)
        return place if isinstance(place, StatePlace) else id(node)


def _is_empty(group: Group) -> bool:
    """Whether there is no point to compute, whatever the batch size."""
    return product(group.frame.outer) == Dim.of(0)
