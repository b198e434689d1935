"""The loops of a kernel before there is one: a shape, and which axes of it are outer."""

from __future__ import annotations

from dataclasses import dataclass

from hearth.ir.dim import Dim, Shape, product
from hearth.ir.graph import Node, Reduce


@dataclass(frozen=True, slots=True)
class Frame:
    """The iteration space of a group: a shape, and which of its axes are the outer loops."""

    shape: Shape
    kept: tuple[int, ...]

    @property
    def outer(self) -> Shape:
        return tuple(self.shape[i] for i in self.kept)

    @property
    def inner(self) -> Shape:
        return tuple(e for i, e in enumerate(self.shape) if i not in self.kept)

    @property
    def points(self) -> Dim:
        return product(self.outer)


def frame_of(node: Node) -> Frame:
    if isinstance(node.op, Reduce):
        shape = node.inputs[0].shape
        return Frame(shape, tuple(i for i in range(len(shape)) if i not in node.op.axes))
    return Frame(node.shape, tuple(range(len(node.shape))))
