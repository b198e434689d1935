"""Which values wait for their gradient in memory, and which are computed once more instead.

What the forward part leaves for the backward part is either *kept*, or computed again just before
its first use there, from kept values and from others that are computed again: segments, as in Chen
et al. 2016, "Training Deep Nets with Sublinear Memory Cost".  `drops` begins with all kept and
drops one value after another, each time the one that takes most off the memory at and near the
peak for each operation that it costs, as XLA's HloRematerialization does on its schedule.  What
costs no matrix product or convolution comes first (functorch's partitioner bans these, too).

The path does not depend on a limit: what fits at a place of it fits for every larger limit, and
the least peak of it can be asked for.  Values stay what they were, bit for bit: sums, whose order
may change from kernel to kernel, are not computed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

from hearth.ir import build
from hearth.ir.dim import product
from hearth.ir.graph import Constant, Graph, Input, Node, Output, Pointwise, Recompute, Reduce
from hearth.schedule.contractions import contracted
from hearth.schedule.lifetimes import Profile, Timeline, Work, profile_of
from hearth.schedule.roots import inlined_by, operations_per_element
from hearth.schedule.storage import CONTRACTIONS

HOT = (0.95, 0.75, 0.5)  # parts of the peak above which memory counts; the next where none helps
EXACT_REDUCTIONS = frozenset(("max", "min", "argmax", "argmin"))


@dataclass(frozen=True, slots=True)
class Choice:
    """What is kept, and what follows from it."""

    kept: frozenset[Node]
    profile: Profile
    operations: int  # of what is computed again
    contractions: int  # how many matrix products and convolutions are among that


class Waiting:
    """The values between the two parts of a step."""

    def __init__(self, timeline: Timeline, batch: int) -> None:
        self.timeline, self.batch = timeline, batch
        works = timeline.works
        step_of = {node: k for k, work in enumerate(works) for node in work.writes}
        turn = max((step_of[n] for n in timeline.losses), default=len(works) - 1) + 1
        self.first, self.second = works[:turn], works[turn:]
        self.forward = {node for work in self.first for node in work.writes}
        late = {node for work in self.second for node in work.reads}
        fixed = timeline.outputs | timeline.in_state | set(filter(_is_sum, self.forward))
        self.droppable = [
            node for work in self.first for node in work.writes if node in late - fixed
        ]
        # What nobody reads later is computed again on the way, unless a choice is to keep it.
        self.fixed = frozenset(fixed & self.forward)
        self.operations = {
            node: sum(
                _operations(part, batch) for part in (node, *inlined_by(node, timeline.roots))
            )
            for node in self.forward
        }

    def choice(self, kept: frozenset[Node]) -> Choice:
        works, again = self.works(kept)
        return Choice(
            kept,
            profile_of(self.timeline, works, self.batch),
            sum(self.operations[node] for node in again),
            sum(isinstance(node.op, CONTRACTIONS) for node in again),
        )

    def works(self, kept: frozenset[Node]) -> tuple[list[Work], set[Node]]:
        """The kernels with those that compute again, and what these compute."""
        works, again = list(self.first), set[Node]()
        for work in self.second:
            for value in work.reads:
                if value in self.forward and value not in kept:
                    works += [
                        Work((node,), self.timeline.loads[node])
                        for node in self._computed_for(value, kept, again)
                    ]
            works.append(work)
        return works, again

    def _computed_for(self, needed: Node, kept: frozenset[Node], done: set[Node]) -> Iterator[Node]:
        """What must be computed again for a value, in order; adds it to `done`."""
        stack = [needed]
        while stack:
            node = stack[-1]
            missing = [x for x in self.dropped_sources(node, kept) if x not in done]
            stack += missing
            if not missing:
                stack.pop()
                if node not in done:
                    done.add(node)
                    yield node

    def dropped_sources(self, node: Node, kept: frozenset[Node]) -> list[Node]:
        """What a value is computed from and that is not there any more."""
        return [x for x in self.timeline.loads[node] if x in self.forward and x not in kept]


def drops(waiting: Waiting) -> Iterator[Choice]:
    """The path, from everything that waits being kept."""
    choice = waiting.choice(waiting.fixed.union(waiting.droppable))
    yield choice
    for may_contract in (False, True):
        search = _Search(waiting, may_contract)
        while (better := search.best(choice)) is not None:
            choice = better
            yield choice


class _Search:
    """Finds what to drop next, trying what was best before first (Minoux's accelerated greedy)."""

    def __init__(self, waiting: Waiting, may_contract: bool) -> None:
        self.waiting, self.may_contract = waiting, may_contract
        self.scores = dict.fromkeys(waiting.droppable, inf)  # as they were when last computed

    def best(self, now: Choice) -> Choice | None:
        for part in HOT:
            known: dict[Node, Choice] = {}
            while self.scores:
                node = max(self.scores, key=self.scores.__getitem__)  # the first of equals
                if node in known:
                    break
                self.scores[node], known[node] = self._without(node, now, part)
            if self.scores and self.scores[node] > 0:
                return known[node]
            self.scores = dict.fromkeys(self.scores, inf)
        return None

    def _without(self, node: Node, now: Choice, part: float) -> tuple[float, Choice]:
        """The better of two: its sources are computed again too, or are kept in its place."""
        if node not in now.kept:
            return 0.0, now
        fewer = now.kept - {node}
        exchanged = fewer.union(self.waiting.dropped_sources(node, fewer))
        found = [self.waiting.choice(kept) for kept in dict.fromkeys((fewer, exchanged))]
        return max(
            ((self._score(now, new, part), new) for new in found), key=lambda scored: scored[0]
        )

    def _score(self, now: Choice, new: Choice, part: float) -> float:
        """Memory that it frees where there is most, for each operation that it costs."""
        if new.contractions > now.contractions and not self.may_contract:
            return 0.0
        hot = int(part * now.profile.peak)
        gain = now.profile.above(hot) - new.profile.above(hot)
        return gain / max(new.operations - now.operations, 1)


def rewritten(waiting: Waiting, kept: frozenset[Node]) -> Graph:
    """The graph in which the backward part reads copies of what is not kept."""
    graph, roots = waiting.timeline.graph, waiting.timeline.roots
    regions = [node.op.region for node in graph.nodes if isinstance(node.op, Recompute)]
    region = 1 + max(regions, default=-1)
    late = _computed_from_copies(waiting, kept)
    inside: dict[Node, Node] = {}  # as recomputations read it
    after: dict[Node, Node] = {}  # as the backward part reads it
    for node in graph.nodes:
        if node in kept or isinstance(node.op, Input | Constant):
            is_table = isinstance(node.op, Constant)
            inside[node] = node if is_table else build.recompute(node, region)
            after[node] = node
        elif node in waiting.forward or node in late:
            inside[node] = after[node] = _rebuilt(node, inside)
        else:
            after[node] = _rebuilt(node, after)
            inside[node] = after[node] if node in roots else _rebuilt(node, inside)
    outputs = tuple(Output(o.name, o.role, after[o.node]) for o in graph.outputs)
    return Graph(outputs, graph.constants)


def _computed_from_copies(waiting: Waiting, kept: frozenset[Node]) -> set[Node]:
    """Roots of the backward part that no gradient flows into: they belong to what they read."""
    late: set[Node] = set()
    for node in (node for work in waiting.second for node in work.writes):
        reads = waiting.timeline.loads.get(node, ())
        copies = [x for x in reads if x in late or (x in waiting.forward and x not in kept)]
        given = [x for x in reads if x in waiting.forward or isinstance(x.op, Input)]
        if copies and len({*copies, *given}) == len(reads):
            late.add(node)
    return late


def _rebuilt(node: Node, inputs: dict[Node, Node]) -> Node:
    new = [inputs[x] for x in node.inputs]
    changed = any(x is not y for x, y in zip(new, node.inputs, strict=True))
    return build.rebuilt(node, new) if changed else node


def _is_sum(node: Node) -> bool:
    return isinstance(node.op, Reduce) and node.op.kind not in EXACT_REDUCTIONS


def _operations(node: Node, batch: int) -> int:
    """Arithmetic of one node; a multiplication and an addition for each product of a sum."""
    points = product(node.shape).at(batch)
    match node.op:
        case Pointwise():
            return points * operations_per_element(node)
        case Reduce():
            return product(node.inputs[0].shape).at(batch)
        case op if isinstance(op, CONTRACTIONS):
            return 2 * points * product(contracted(node)).at(batch)
    return 0
