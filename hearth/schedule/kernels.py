"""A fusion group and its emitted body -> the kernel, simplified and named."""

from __future__ import annotations

from dataclasses import replace

from hearth.ir.dim import product
from hearth.ir.graph import Node, Reduce
from hearth.ir.kernel import Kernel, Param, Stage, Store
from hearth.ir.simplify import simplify
from hearth.ir.walking import kernel_expressions
from hearth.schedule.choose import choose_elements
from hearth.schedule.emit import Body
from hearth.schedule.fuse import Group


def kernel_of(group: Group, body: Body, halves: set[Node]) -> Kernel:
    """The kernel of a group; `halves` are the stored values that are float16 numbers."""
    origin = next((m.origin for m in group.members if m.origin), "")
    kernel = Kernel(
        _kernel_name(group), _params(body, halves), group.frame.outer, tuple(body.stages),
        body.template, origin,
    )  # fmt: skip
    return choose_elements(simplified(kernel))


def simplified(kernel: Kernel) -> Kernel:
    """The kernel with simpler expressions; fusion brings together what no node saw before."""
    exprs = iter(simplify(kernel_expressions(kernel)))
    stages: list[Stage] = []
    for stage in kernel.stages:
        if isinstance(stage, Store):
            stages.append(replace(stage, value=next(exprs)))
        else:
            reductions = tuple(replace(r, value=next(exprs)) for r in stage.reductions)
            stages.append(replace(stage, reductions=reductions))
    return replace(kernel, stages=tuple(stages))


def _params(body: Body, halves: set[Node]) -> tuple[Param, ...]:
    return tuple(
        Param(node.dtype, product(node.shape), i in body.loads, i in body.stores, node in halves)
        for i, node in enumerate(body.params)
    )


def _kernel_name(group: Group) -> str:
    first, *rest = group.members
    names = {"Pointwise": "map", "ConvInputGrad": "conv_input_grad",
             "ConvWeightGrad": "conv_weight_grad"}  # fmt: skip
    kind = type(first.op).__name__
    name = first.op.kind if isinstance(first.op, Reduce) else names.get(kind, kind.lower())
    return f"{name}_fused" if rest else name
