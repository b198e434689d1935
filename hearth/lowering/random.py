"""Uniform random numbers: Philox 4x32-10, counters as in spec/manifest.md."""

from __future__ import annotations

from hearth.capture.graph import AtenNode
from hearth.ir import build
from hearth.ir.dtype import FLOAT32, INT32, UINT32
from hearth.ir.graph import Node
from hearth.ir.scalar import Arg, Coord, apply, cast, const
from hearth.lowering.rules import Operand, lowers


@lowers("hearth.rand")
def _rand(site: AtenNode, seed: Node, step: Node, _: Operand, stream: int) -> Node:
    key = [build.slice_(seed, (word,), (1,), origin=site.origin) for word in range(2)]
    words = [cast(Arg(n.dtype, position), UINT32) for position, n in enumerate((*key, step))]
    index = cast(Coord(INT32, None), UINT32)
    word = apply("random", *words, const(stream, UINT32), index)
    # 24 bits: every float32 in [0, 1) with this spacing is exact.
    uniform = apply("mul", cast(apply("shift_right", word, 8), FLOAT32), 2.0**-24)
    shape = site.shape or (1,)
    drawn = build.pointwise(
        uniform, *key, build.reshape(step, (1,), site.origin), shape=shape, origin=site.origin
    )
    return build.reshape(drawn, site.shape, site.origin)
