"""Fusion groups: which stored values are computed by one kernel.

A root joins the group of one of its producers (or, for reductions and maps, of a sibling that reads
the same data) when one loop nest can compute both: the same outer points, no cycle between groups,
few enough buffers.  Whether the loops fit is decided by emitting them (emit.py), not by rules here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from hearth.ir.dim import Dim, product
from hearth.ir.graph import Graph, Input, Node, Pack, Reduce
from hearth.schedule.allocate import TYPICAL_BATCH
from hearth.schedule.emit import Body, Emitter, NotFusibleError
from hearth.schedule.frame import Frame, frame_of
from hearth.schedule.roots import computed_late, direct_reads
from hearth.schedule.storage import CONTRACTIONS, base_of

MAX_PARAMS = 8  # storage bindings per shader stage: the WebGPU baseline
SHARED_PART = 4  # kernels over the same data are one where it is at least a quarter of their points
MAX_ROW_ELEMENTS = 16384  # a row is recomputed by every stage, so it must stay in cache
ONE = Dim.of(1)


@dataclass(eq=False)
class Group:
    """Roots that one kernel computes, producers first."""

    frame: Frame
    members: list[Node]
    depends_on: set[Group] = field(default_factory=set)
    reads: set[Node] = field(default_factory=set)
    is_late: bool = False  # a recomputation, which runs only when its results are needed


class Fusion:
    """The state of one run of `fuse`."""

    def __init__(self, graph: Graph, roots: set[Node], updates_in_place: bool) -> None:
        self.roots = roots
        states = {input_name(node): node for node in graph.inputs}
        self.overwritten: dict[Node, Node] = (
            {
                base_of(o.node): states[o.name]
                for o in graph.outputs
                if o.role == "update" and o.name in states
            }
            if updates_in_place
            else {}
        )
        self.loads = direct_reads(graph.nodes, roots)
        self.needs = {node: _with_parts(found) for node, found in self.loads.items()}
        self.late = computed_late(graph.nodes, roots)
        self.outputs = {base_of(output.node) for output in graph.outputs}
        self.readers: dict[Node, set[Node]] = {}
        for root in roots:
            for source in self.needs[root]:
                self.readers.setdefault(source, set()).add(root)
        self.groups: list[Group] = []
        self.group_of: dict[Node, Group] = {}

    def place(self, node: Node) -> None:
        """Put a root into the first group that can compute it too, or into a new one."""
        group = next((g for g in self._candidates(node) if self._fits(g, node)), None)
        if group is None:
            group = Group(frame_of(node), [], is_late=node in self.late)
            self.groups.append(group)
        group.members.append(node)
        group.is_late &= node in self.late
        group.reads |= self.needs[node]
        group.depends_on |= self._producers(node) - {group}
        self.group_of[node] = group

    def stored(self, members: Iterable[Node]) -> set[Node]:
        """The members that someone outside of the group reads."""
        inside = set(members)
        return {m for m in inside if m in self.outputs or not self.readers.get(m, set()) <= inside}

    def emit_overwriting(self, group: Group, update: Node) -> tuple[Body, int]:
        """The group's body if all its updates are in place, and the update's parameter."""
        emitter = Emitter(group.frame, group.members, self.roots, self._key)
        body = emitter.emit(self.stored(group.members))
        return body, emitter.param(update)

    def _emit(self, frame: Frame, members: list[Node]) -> Body:
        return Emitter(frame, members, self.roots, self._key).emit(self.stored(members))

    def _key(self, node: Node) -> int:
        return id(self.overwritten.get(node, node))

    def _producers(self, node: Node) -> set[Group]:
        return {self.group_of[n] for n in self.needs[node] if n in self.group_of}

    def _candidates(self, node: Node) -> Iterator[Group]:
        """Groups worth trying, the latest first: producers, then siblings over the same data."""
        if isinstance(node.op, CONTRACTIONS):
            return
        producers, frame = self._producers(node), frame_of(node)
        before = ancestors(producers)  # such a group would wait for what waits for it
        shared = {n for n in self.needs[node] if _is_worth_sharing(n, frame)}
        is_number = not isinstance(node.op, Reduce) and product(node.shape) == ONE
        is_late = node in self.late
        for group in reversed(self.groups):
            if group in before or (is_late and not group.is_late):
                continue
            is_sibling = group.frame == frame and not shared.isdisjoint(group.reads)
            is_sibling &= group.is_late == is_late
            if (
                (group in producers and _may_follow(group, node))
                or (is_sibling and not isinstance(group.members[0].op, CONTRACTIONS))
                or (is_number and group.is_late == is_late and _gives_numbers(group))
            ):
                yield group

    def _fits(self, group: Group, node: Node) -> bool:
        members = [*group.members, node]
        if self._least_params(members) > MAX_PARAMS:
            return False  # known before the long way of emitting it
        try:
            body = self._emit(group.frame, members)
        except NotFusibleError:
            return False
        return len(body.params) <= MAX_PARAMS

    def _least_params(self, members: list[Node]) -> int:
        inside = self.stored(members)
        outside = set().union(*(self.loads[m] for m in members)) - set(members)
        return len({self._key(base_of(n)) for n in inside | outside})


def fuse(graph: Graph, roots: set[Node], updates_in_place: bool) -> Fusion:
    """Every root except packs (which are only memory) in exactly one group.

    With `updates_in_place`, an update and the state it replaces count as one buffer.
    """
    fusion = Fusion(graph, roots, updates_in_place)
    for node in graph.nodes:
        if node in roots and not isinstance(node.op, Pack):
            fusion.place(node)
    return fusion


def _may_follow(group: Group, node: Node) -> bool:
    """Whether a node may share the loops of its producer without losing parallelism."""
    frame = group.frame
    if isinstance(node.op, Reduce):
        return frame_of(node) == frame
    if product(node.shape) == frame.points:
        return True
    # A row store: every outer point writes a whole row.
    row = product(frame.inner)
    return (
        node.shape == frame.shape
        and not frame.points.is_static
        and row.is_static
        and row.static <= MAX_ROW_ELEMENTS
    )


def _is_worth_sharing(data: Node, frame: Frame) -> bool:
    """Whether loops read so much of it that those of two kernels had better be one.

    Those over a seed or a bias had better not: random masks would all be made before the first
    layer runs, and wait in memory for the last.
    """
    size, points = (product(s).at(TYPICAL_BATCH) for s in (data.shape, frame.shape))
    return size > 1 and SHARED_PART * size >= points


def _gives_numbers(group: Group) -> bool:
    """Single numbers share a kernel even where they have nothing to do with each other."""
    return group.frame.points == ONE and not group.frame.inner


def reaches(start: Group, goal: Group) -> bool:
    """Whether a group is, or depends on through any path, another."""
    return start is goal or goal in ancestors([start])


def ancestors(groups: Iterable[Group]) -> set[Group]:
    """All that these groups depend on, through any path."""
    found: set[Group] = set()
    stack = list(groups)
    while stack:
        new = stack.pop().depends_on - found
        found |= new
        stack.extend(new)
    return found


def _with_parts(reads: set[Node]) -> set[Node]:
    """What must exist before a node: what it reads, and all parts of the packs among that."""
    packs = [n for n in reads if isinstance(n.op, Pack)]
    return reads.union(base_of(part) for pack in packs for part in pack.inputs)


def input_name(node: Node) -> str:
    assert isinstance(node.op, Input)
    return node.op.name
