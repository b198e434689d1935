"""The inner loops of a convolution over one channel: a window that moves over one plane."""

from __future__ import annotations

from collections.abc import Sequence

from hearth.codegen.wasm.assembler import Function, Local, Operand, f32x4, i32, op, shuffle
from hearth.codegen.wasm.maths import Maths, with_twin
from hearth.codegen.wasm.microkernels import DOT_COLUMNS, PANEL, write_dots
from hearth.codegen.wasm.opcodes import I32, V128
from hearth.ir.dtype import ELEMENT_BYTES

MOST_TOTALS = 9  # that stay in registers


@with_twin
def window_sums(maths: Maths, offsets: Sequence[int]) -> Function:
    """C[8 · panels] = sum of A[tap] B[offset of the tap + ·]: A stays in registers.

    Parameters: a, b, c, panels.  Offsets are in bytes; more than nine weights are read from the
    stack, and summed in two chains.
    """
    f = Function(f"window_sums_{len(offsets)}", (I32,) * 4)
    a, b, c, panels = (f.param(i) for i in range(4))
    weights = [
        f.local(op("v128.load32_splat", a, immediate=ELEMENT_BYTES * i))
        for i in range(len(offsets))
    ]
    chains = 1 if len(offsets) <= MOST_TOTALS else 2  # of sums that do not wait for each other
    totals = [[f.local(V128) for _ in range(2)] for _ in range(chains)]
    with f.loop():
        for i, (weight, offset) in enumerate(zip(weights, offsets, strict=True)):
            for j, total in enumerate(totals[i % chains]):
                value = op("v128.load", b, immediate=offset + 16 * j)
                is_first = i < chains
                f.set(total, op("f32x4.mul", weight, value) if is_first
                      else maths.multiply_add(weight, value, total))  # fmt: skip
        for j, total in enumerate(totals[0]):
            for other in totals[1:]:
                f.set(total, op("f32x4.add", total, other[j]))
            f.store("v128.store", c, total, 16 * j)
        f.increment(b, PANEL * ELEMENT_BYTES)
        f.increment(c, PANEL * ELEMENT_BYTES)
        f.increment(panels, -1)
        f.repeat_if(panels)
    return maths.module.add(f)


@with_twin
def window_dots(maths: Maths, offsets: Sequence[int], size: int) -> Function:
    """C[row, tap] = sum over positions of A[row, ·] B[offset of the tap + ·].

    Parameters: a, b, c, rows, whether to add to C.  Offsets are in bytes; a row has `size`
    positions.
    """
    f = Function(f"window_dots_{len(offsets)}", (I32,) * 5)
    a, b, c, rows, adds = (f.param(i) for i in range(5))
    with f.counted(rows):
        for first in range(0, len(offsets), MOST_TOTALS):
            own = offsets[first : first + MOST_TOTALS]
            f.perform(f.call(_dots(maths, own, size), a, b, c + first * ELEMENT_BYTES, adds))
        f.increment(a, size * ELEMENT_BYTES)
        f.increment(c, len(offsets) * ELEMENT_BYTES)
    return maths.module.add(f)


def _dots(maths: Maths, offsets: Sequence[int], size: int) -> Function:
    """A row of `window_dots`, some taps.  Parameters: a, b, c, whether to add to C."""
    f = Function(f"dots_{len(offsets)}", (I32,) * 4)
    a, b, c, adds = (f.param(i) for i in range(4))
    totals = [f.local(f32x4(0)) for _ in offsets]
    left = f.local(V128)

    def step(load: str, width: int) -> None:
        f.set(left, op(load, a))
        for total, offset in zip(totals, offsets, strict=True):
            right = op(load, b, immediate=offset)
            f.set(total, maths.multiply_add(left, right, total))
        f.increment(a, width)
        f.increment(b, width)

    vectors, rest = divmod(size, 4)
    with f.counted(i32(vectors)):
        step("v128.load", 16)
    for _ in range(rest):  # one element in lane 0, zeros in the others
        step("v128.load32_zero", ELEMENT_BYTES)
    _write(f, totals, c, adds)
    return maths.module.add(f)


def _write(f: Function, totals: Sequence[Local], c: Operand, adds: Operand) -> None:
    whole = len(totals) // DOT_COLUMNS * DOT_COLUMNS
    for i in range(0, whole, DOT_COLUMNS):
        write_dots(f, totals[i : i + DOT_COLUMNS], c + i * ELEMENT_BYTES, adds)
    for i in range(whole, len(totals)):
        write_dots(f, totals[i : i + 1], c + i * ELEMENT_BYTES, adds)


def interleave(maths: Maths) -> Function:
    """Every other element from each of two runs.  Parameters: both, to, how many panels of each."""
    f = Function("interleave", (I32,) * 4)
    even, odd, to, panels = (f.param(i) for i in range(4))
    with f.counted(panels):
        for j in range(2):
            a, b = (f.local(op("v128.load", p, immediate=16 * j)) for p in (even, odd))
            f.store("v128.store", to, shuffle(a, b, 0, 4, 1, 5), 32 * j)
            f.store("v128.store", to, shuffle(a, b, 2, 6, 3, 7), 32 * j + 16)
        f.increment(even, PANEL * ELEMENT_BYTES)
        f.increment(odd, PANEL * ELEMENT_BYTES)
        f.increment(to, 2 * PANEL * ELEMENT_BYTES)
    return maths.module.add(f)
