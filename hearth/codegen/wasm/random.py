"""Random words for four neighbouring elements at once.

One Philox block has four words, and element i takes word `i & 3` of block `i >> 2`: where the lanes
are elements 4j to 4j+3, one block serves them all and the lanes are its words.  (Elsewhere the op
is expanded like any other, and computes a block per element.)
"""

from __future__ import annotations

from hearth.codegen.wasm.assembler import Function, Operand, i32x4, op, shuffle
from hearth.codegen.wasm.maths import Maths
from hearth.codegen.wasm.normalize import Canonical
from hearth.codegen.wasm.opcodes import I32, V128
from hearth.ir.dim import Dim
from hearth.ir.expr import Apply, Expr
from hearth.ir.index import Axis, Index
from hearth.ir.kernel import IndexValue

# Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10


def aligned_index(canonical: Canonical, value: Expr, axis: int) -> Index | None:
    """The index behind a number whose four lanes are one block, if the axis begins at one."""
    if isinstance(value, Apply) and value.op == "to_uint32":
        value = value.args[0]
    if not isinstance(value, IndexValue) or canonical.stride(value.index, axis) != Dim.of(1):
        return None
    others = [c for a, c in value.index.terms if a not in _axis_atoms(value.index, axis)]
    is_linear = all(isinstance(a, Axis) for a, _ in value.index.terms)
    is_whole = all(x % 4 == 0 for c in (*others, value.index.constant) for x in c.coefficients)
    return value.index if is_linear and is_whole else None


def _axis_atoms(index: Index, axis: int) -> list[Axis]:
    return [a for a, _ in index.terms if isinstance(a, Axis) and a.position == axis]


def block_function(maths: Maths) -> Function:
    """The four words of a block.  Parameters: (key0, 0, key1, 0), (0, stream, step, 0), block."""
    f = Function("maths.philox", (V128, V128, I32), V128)
    key = f.local(f.param(0))
    words = f.local(op("i32x4.replace_lane", f.param(1), f.param(2), immediate=0))
    multipliers = i32x4(*MULTIPLIERS, 0, 0)
    for number in range(ROUNDS):
        if number:
            f.set(key, op("i32x4.add", key, i32x4(WEYL[0], 0, WEYL[1], 0)))
        even = shuffle(words, words, 0, 2, 0, 2)
        products = f.local(op("i64x2.extmul_low_i32x4_u", even, multipliers))
        crossed = shuffle(products, products, 3, 2, 1, 0)
        odd = op("i64x2.shr_u", words, 32)
        f.set(words, op("v128.xor", crossed, op("v128.xor", odd, key)))
    f.result(words)
    return maths.module.add(f)


def vector_of(*lanes: Operand | None) -> Operand:
    """Four integers as a vector; None is 0."""
    vector = i32x4(0)
    for lane, value in enumerate(lanes):
        if value is not None:
            vector = op("i32x4.replace_lane", vector, value, immediate=lane)
    return vector
