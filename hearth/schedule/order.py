"""The order of kernels, and which updates may overwrite their state directly.

Kernels run as soon as their operands exist (by depth), so that an activation dies soon after the
gradients that need it.  Recomputations run as late as they can.  An update overwrites its state in
place when every other kernel that reads the old value can run before it, and when its own kernel
reads the old value only at the element it writes; otherwise it is computed aside and copied at the
end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hearth.ir.graph import Node
from hearth.ir.kernel import Store
from hearth.schedule.emit import Body, params_read
from hearth.schedule.fuse import Group, reaches


def order_groups(groups: list[Group]) -> list[Group]:
    """Producers before users, shallow before deep, otherwise as they came; late ones last."""
    depth: dict[Group, int] = {}

    def measure(start: Group) -> None:
        stack = [start]
        while stack:
            group = stack[-1]
            waiting = [d for d in group.depends_on if d not in depth]
            if waiting:
                stack.extend(waiting)
                continue
            own = 0 if group.is_late else 1
            depth[group] = own + max((depth[d] for d in group.depends_on), default=0)
            stack.pop()

    for group in groups:
        measure(group)
    in_time = sorted((g for g in groups if not g.is_late), key=lambda g: depth[g])  # stable
    return list(_with_what_they_need([*in_time, *(g for g in groups if g.is_late)]))


def _with_what_they_need(groups: list[Group]) -> Iterator[Group]:
    """The groups, each after the late ones that it waits for."""
    position = {group: k for k, group in enumerate(groups)}
    done: set[Group] = set()
    for goal in groups:
        stack = [goal]
        while stack:
            group = stack[-1]
            waiting = [d for d in group.depends_on if d not in done]
            if not waiting:
                stack.pop()
                if group not in done:
                    done.add(group)
                    yield group
            # In the order of the list, as that of a set changes with every run.
            stack.extend(sorted(waiting, key=position.__getitem__, reverse=True))


def place_update(
    writer: Group, body: Body, param: int, states: list[Node], groups: list[Group]
) -> bool:
    """Try to let `writer` overwrite a state; adds the edges "reader before writer" on success.

    `body` is the writer's with one parameter, `param`, for the state and its update; `states` are
    the graph inputs whose memory overlaps the state.
    """
    readers = [g for g in groups if g is not writer and not g.reads.isdisjoint(states)]
    if any(reaches(reader, writer) for reader in readers):
        return False
    if not _may_overwrite(body, param, states):
        return False
    writer.depends_on.update(readers)
    return True


def _may_overwrite(body: Body, param: int, states: list[Node]) -> bool:
    """Whether the kernel reads the state only where it writes, and not after it wrote."""
    others = [i for i, node in enumerate(body.params) if node in states and i != param]
    if any(i in body.loads for i in others):
        return False
    if body.loads.get(param, set()) - {body.stores[param]}:
        return False
    stores = [stage for stage in body.stages if isinstance(stage, Store)]
    position = next(i for i, stage in enumerate(stores) if stage.param == param)
    return all(param not in params_read(stage) for stage in stores[position + 1 :])


def overlaps(offsets: Mapping[Node, tuple[int, int]], target: tuple[int, int]) -> list[Node]:
    """The inputs whose bytes [start, end) overlap the target's."""
    return [n for n, (start, end) in offsets.items() if start < target[1] and target[0] < end]
