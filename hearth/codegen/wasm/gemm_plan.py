"""How a matrix product is blocked and what of it is packed: rules from measurements.

Rows times rows (`is_dot`) needs no packing and suits few rows.  Columns of B at a time are faster
where enough rows share a packed B.
"""

from __future__ import annotations

from dataclasses import dataclass

from hearth.codegen.wasm.epilogue import plain_output
from hearth.codegen.wasm.microkernels import PANEL
from hearth.codegen.wasm.vectorize import TYPICAL_BATCH
from hearth.ir.dim import Dim
from hearth.ir.graph import Triangular
from hearth.ir.kernel import DotTemplate, Kernel

DOT_FROM_K = 32  # shorter rows spend their time in the final sums
# Sums of sums: the rounding error of one long sum grows with its length, and PyTorch's do not.
BLOCK_K, BLOCK_DOT_K = 256, 1024
WHOLE_N, BLOCK_N = 1024, 512
# A block of sums waits in the cache for its epilogue; rows: a multiple of both tile heights.
BLOCK_ELEMENTS, BLOCK_ROWS = 1 << 15, 30
TALL, NARROW = 48, 16  # a matrix of so many rows shares a packed B; one of fewer columns does not
AHEAD_ELEMENTS = 1 << 19  # of B, packed before the loop over rows
# Rows or columns of a triangular matrix that are taken together: half of such a square is wasted.
TRIANGLE_BLOCK = 32
# Rows from which on a batch pays for packing its weights, where these take any time.
MANY_ROWS, MANY_WEIGHTS = 96, 1 << 16


@dataclass(frozen=True)
class GemmPlan:
    """How one product is blocked; sizes in elements."""

    m: Dim
    n: Dim
    k: Dim
    batch: Dim
    transpose_a: bool
    transpose_b: bool
    is_dot: bool  # rows times rows, else columns of B at a time
    packs_a: bool
    packs_b: bool
    packs_b_ahead: bool  # before the loop over rows, else each panel when it is needed
    block_m: int
    block_n: int
    block_k: int
    has_single_k: bool
    has_single_n: bool
    output: int | None  # written directly, without an epilogue
    triangular: Triangular  # of what this leaves out zeros

    @staticmethod
    def of(kernel: Kernel, t: DotTemplate, rows: int | None = None) -> GemmPlan:
        """`rows` are those to plan for, if not of a typical batch."""
        m, n, k = (d.at(TYPICAL_BATCH) for d in (t.m, t.n, t.k))
        m = rows or m
        # A matrix of one row or column is its own transpose.
        transpose_a = t.transpose_a and t.m != Dim.of(1)
        transpose_b = t.transpose_b or t.n == Dim.of(1)
        is_tall = m >= TALL and n >= NARROW
        is_dot = transpose_b and not (transpose_a or is_tall) and t.k.is_static and k >= DOT_FROM_K
        most = BLOCK_DOT_K if is_dot else BLOCK_K
        block_k = equal_block(k, most) if t.k.is_static else most
        has_single_n = t.n.is_static and n <= WHOLE_N
        block_n = -(-n // PANEL) * PANEL if has_single_n else BLOCK_N
        rows = BLOCK_ELEMENTS // block_n // BLOCK_ROWS * BLOCK_ROWS
        can_pack_ahead = t.k.is_static and block_n * k <= AHEAD_ELEMENTS
        is_whole = is_dot or all(c % PANEL == 0 for c in t.n.coefficients)
        lower = Triangular() if is_dot or t.triangular is None else t.triangular
        block_m = max(BLOCK_ROWS, min(8 * BLOCK_ROWS, rows))
        if lower.a or lower.result:
            block_m = TRIANGLE_BLOCK
        if lower.b:
            block_n, has_single_n = min(block_n, 2 * TRIANGLE_BLOCK), n <= 2 * TRIANGLE_BLOCK
        return GemmPlan(
            t.m, t.n, t.k, t.batch, transpose_a, transpose_b, is_dot,
            packs_a=(transpose_a and n >= TALL) or (not transpose_a and not t.k.is_static),
            packs_b=not is_dot and (transpose_b or (is_tall and can_pack_ahead)),
            packs_b_ahead=not is_dot and (transpose_b or is_tall) and can_pack_ahead,
            block_m=block_m,
            block_n=block_n,
            block_k=block_k,
            has_single_k=t.k.is_static and k <= block_k,
            has_single_n=has_single_n,
            output=plain_output(kernel) if is_whole else None,
            triangular=lower,
        )  # fmt: skip

    @property
    def scratch_elements(self) -> tuple[int, int, int]:
        """Of the block of sums, of packed A and of packed B."""
        sums = 0 if self.output is not None else self.block_m * self.block_n
        a = self.block_m * self.block_k if self.packs_a else 0
        if self.packs_b_ahead:
            return sums, a, self.k.static * self.block_n
        b = 0 if self.is_dot else self.block_k * PANEL
        return sums, a, b


def equal_block(size: int, most: int) -> int:
    """The size of equal blocks of at most `most`; a multiple of 4 where there are several."""
    count = -(-size // most)
    return size if count == 1 else -(-size // (4 * count)) * 4
