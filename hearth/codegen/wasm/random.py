"""Random words for neighbouring elements, sixteen at a time.

One Philox block has four words, and element i takes word `i & 3` of block `i >> 2`.  Where the
lanes of a loop are elements 4j to 4j+3, four blocks (one per lane) are computed at once, and kept
for the three steps of the loop that follow.  (Elsewhere the op is expanded like any other, and
computes a block per element.)
"""

from __future__ import annotations

from dataclasses import dataclass

from hearth.codegen.wasm.assembler import Function, Local, Operand, i32, i32x4, op, shuffle
from hearth.codegen.wasm.canonical import Canonical
from hearth.codegen.wasm.opcodes import V128
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


@dataclass(frozen=True, eq=False)
class Stream:
    """The words of one random tensor in a function: those of blocks 4·tag to 4·tag + 3.

    The locals live as long as the function.
    """

    function: Function
    tag: Local
    words: tuple[Local, ...]

    @staticmethod
    def of(f: Function) -> Stream:
        """To be called where the function begins, in front of every loop."""
        scope = f.scopes[0]
        tag = f.local(i32(-1), fresh=True, scope=scope)
        return Stream(f, tag, tuple(f.local(V128, fresh=True, scope=scope) for _ in range(4)))

    def take(self, key: tuple[Operand, Operand], step: Operand, stream: Operand,
             block: Operand) -> Operand:  # fmt: skip
        """The four words of a block."""
        f = self.function
        block = f.local(block)
        group = f.local(op("i32.shr_u", block, 2))
        with f.if_(op("i32.ne", group, self.tag)):
            f.set(self.tag, group)
            self._compute(key, step, stream, group)
        result = f.local(V128)
        with f.if_(op("i32.and", block, 2)):
            self._pick(result, block, 2)
            f.else_()
            self._pick(result, block, 0)
        return result

    def _pick(self, result: Local, block: Operand, first: int) -> None:
        f = self.function
        f.set(result, self.words[first])
        with f.if_(op("i32.and", block, 1)):
            f.set(result, self.words[first + 1])

    def _compute(self, key: tuple[Operand, Operand], step: Operand, stream: Operand,
                 group: Operand) -> None:  # fmt: skip
        f = self.function
        keys = [f.local(op("i32x4.splat", k)) for k in key]
        first = op("i32x4.splat", group * 4)
        c = [f.local(v) for v in (
            op("i32x4.add", first, i32x4(0, 1, 2, 3)),
            op("i32x4.splat", stream), op("i32x4.splat", step), i32x4(0),
        )]  # fmt: skip
        for number in range(ROUNDS):
            if number:
                for k, weyl in zip(keys, WEYL, strict=True):
                    f.set(k, op("i32x4.add", k, i32x4(weyl)))
            (low0, high0), (low2, high2) = (
                self._products(x, m) for x, m in zip((c[0], c[2]), MULTIPLIERS, strict=True)
            )
            c = [
                f.local(op("v128.xor", op("v128.xor", high2, c[1]), keys[0])), low2,
                f.local(op("v128.xor", op("v128.xor", high0, c[3]), keys[1])), low0,
            ]  # fmt: skip
        self._transpose(c)

    def _products(self, x: Operand, multiplier: int) -> tuple[Local, Local]:
        """The low and high halves of x times a constant."""
        f = self.function
        a, b = (
            f.local(op(f"i64x2.extmul_{half}_i32x4_u", x, i32x4(multiplier)))
            for half in ("low", "high")
        )
        return f.local(shuffle(a, b, 0, 2, 4, 6)), f.local(shuffle(a, b, 1, 3, 5, 7))

    def _transpose(self, rows: list[Local]) -> None:
        """Lane j of word w is word w of block j: turned around, word j has all words of block j."""
        f = self.function
        a, b, c, d = rows
        pairs = [
            f.local(shuffle(x, y, *lanes))
            for x, y in ((a, b), (c, d)) for lanes in ((0, 4, 1, 5), (2, 6, 3, 7))
        ]  # fmt: skip
        low_ab, high_ab, low_cd, high_cd = pairs
        for word, (x, y, lanes) in zip(self.words, (
            (low_ab, low_cd, (0, 1, 4, 5)), (low_ab, low_cd, (2, 3, 6, 7)),
            (high_ab, high_cd, (0, 1, 4, 5)), (high_ab, high_cd, (2, 3, 6, 7)),
        ), strict=True):  # fmt: skip
            f.set(word, shuffle(x, y, *lanes))
