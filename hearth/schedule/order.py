"""The order of kernels, and which updates may overwrite their state directly.

Kernels run as soon as their operands exist (by depth), so that an activation dies soon after the
gradients that need it.  An update overwrites its state in place when every other kernel that reads
the old value can run before it, and when its own kernel reads the old value only at the element it
writes; otherwise it is computed aside and copied at the end.
"""

from __future__ import annotations

from collections.abc import Mapping

from hearth.ir.graph import Node
from hearth.ir.kernel import Load, Store
from hearth.schedule.emit import Body
from hearth.schedule.fuse import Group, reaches
from hearth.schedule.reference import walk_kernel


def order_groups(groups: list[Group]) -> list[Group]:
    """Producers before users, shallow before deep, otherwise as they came."""
    depth: dict[Group, int] = {}

    def measure(start: Group) -> None:
        stack = [start]
        while stack:
            group = stack[-1]
            waiting = [d for d in group.depends_on if d not in depth]
            if waiting:
                stack.extend(waiting)
                continue
            depth[group] = 1 + max((depth[d] for d in group.depends_on), default=0)
            stack.pop()

    for group in groups:
        measure(group)
    return sorted(groups, key=lambda g: depth[g])  # sorting is stable


def place_update(
    writer: Group,
    body: Body,
    update: Node,
    states: list[Node],
    groups: list[Group],
    updates: set[Node],
) -> bool:
    """Try to let `writer` overwrite the state; adds the edges "reader before writer" on success.

    `states` are the graph inputs whose memory overlaps the state; `updates` are all values that
    may overwrite some state.
    """
    readers = [g for g in groups if g is not writer and not g.reads.isdisjoint(states)]
    if any(reaches(reader, writer) for reader in readers):
        return False
    if not writer.reads.isdisjoint(states) and not _may_overwrite(body, update, states, updates):
        return False
    writer.depends_on.update(readers)
    return True


def _may_overwrite(body: Body, update: Node, states: list[Node], updates: set[Node]) -> bool:
    """Whether the kernel reads the state only where it writes, and not after it wrote."""
    target = body.params.index(update)
    written = body.stores[target]
    operands = {param for param, node in enumerate(body.params) if node in states}
    if any(body.loads.get(param, set()) - {written} for param in operands):
        return False
    stores = [stage for stage in body.stages if isinstance(stage, Store)]
    position = next(i for i, stage in enumerate(stores) if stage.param == target)
    later = [s for s in stores[position + 1 :] if body.params[s.param] in updates]
    return all(operands.isdisjoint(params_read(stage)) for stage in later)


def params_read(stage: Store) -> set[int]:
    return {e.param for e in walk_kernel([stage.value]) if isinstance(e, Load)}


def overlaps(offsets: Mapping[Node, tuple[int, int]], target: tuple[int, int]) -> list[Node]:
    """The inputs whose bytes [start, end) overlap the target's."""
    return [n for n, (start, end) in offsets.items() if start < target[1] and target[0] < end]
