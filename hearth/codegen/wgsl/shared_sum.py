"""Contractions whose sum is long and whose result is small: the threads share the sum.

A workgroup computes one small block of results.  Each thread takes its share of the sum for the
whole block, straight from memory, and the partial blocks meet in a tree.  Weight gradients of
convolutions (a sum over batch and image) and products with a small batch are like this.
"""

from __future__ import annotations

from dataclasses import dataclass

from hearth.codegen.wgsl.blocks import locate_block
from hearth.codegen.wgsl.body import Body
from hearth.codegen.wgsl.contraction import Contraction, Operand, Places
from hearth.codegen.wgsl.epilogue import write_results
from hearth.codegen.wgsl.module import WgslKernel, assemble
from hearth.codegen.wgsl.operands import clamped_quad
from hearth.codegen.wgsl.sums import Share, Sums
from hearth.codegen.wgsl.term import Term


@dataclass(frozen=True, slots=True)
class Block:
    """Results per workgroup (multiples of 4) and threads that share their sums."""

    all_rows: int
    all_columns: int
    lanes: int


def emit_shared_sum(contraction: Contraction, block: Block) -> WgslKernel:
    """A module in which the threads of a workgroup share the sums of a block of results."""
    body = Body(contraction.kernel.params, contraction.vectors(lambda o: o.is_depth_vector))
    workgroups = locate_block(body, contraction, block.all_rows, block.all_columns)
    _SharedSum(contraction, block, body).run()
    method = f"{block.lanes} threads together for {block.all_rows} x {block.all_columns}"
    return assemble(contraction.kernel, body, block.lanes, workgroups, method)


class _SharedSum:
    def __init__(self, contraction: Contraction, block: Block, body: Body) -> None:
        self.contraction, self.block, self.body = contraction, block, body
        self.places = Places(body, contraction, Term("slice"))
        self.vectors = block.all_rows * block.all_columns // 4
        self.rows = self.positions(contraction.rows, "first_row", block.all_rows)
        self.columns = self.positions(contraction.columns, "first_column", block.all_columns)

    def positions(self, operand: Operand, origin: str, count: int) -> list[list[Term]]:
        return [
            clamped_quad(self.body, operand, f"{origin} + {4 * i}u", 0, count)
            for i in range(count // 4)
        ]

    def run(self) -> None:
        sums = Sums(self.places, self.rows, self.columns)
        sums.declare()
        sums.run(self.share())
        self.combine(sums.vectors())
        self.finish()

    def share(self) -> Share:
        lanes, shares = self.block.lanes, self.contraction.shares
        if shares == 1:
            return Share("thread", lanes)
        self.body.line(f"let lane = {self.places.share} * {lanes}u + thread;")
        return Share("lane", lanes * shares)

    def combine(self, totals: list[str]) -> None:
        """The tree; afterwards the first vectors of `partial` are the results.

        The upper half of the threads goes first, which halves the memory: clearing it costs time,
        and SwiftShader compiles one store per element for that.
        """
        body, half, count = self.body, self.block.lanes // 2, self.vectors
        body.workgroup_arrays["partial"] = "vec4<f32>", half * count
        with body.block(f"if (thread >= {half}u)"):
            for i, name in enumerate(totals):
                body.line(f"partial[(thread - {half}u) * {count}u + {i}u] = {name};")
        body.line("workgroupBarrier();")
        with body.block(f"if (thread < {half}u)"):
            for i, name in enumerate(totals):
                body.line(f"partial[thread * {count}u + {i}u] += {name};")
        body.line("workgroupBarrier();")
        # All threads add: each step halves a run of `half * count` vectors.
        with body.block(f"for (var half = {half * count // 2}u; half >= {count}u; half /= 2u)"):
            with body.range_loop("thread", "half", self.block.lanes) as at:
                body.line(f"partial[{at.text}] += partial[{at.text} + half];")
            body.line("workgroupBarrier();")

    def finish(self) -> None:
        body, block = self.body, self.block
        total = block.all_rows * block.all_columns
        with body.range_loop("thread", f"{total}u", block.lanes) as i:
            row = body.let(Term(f"first_row + {i.text} / {block.all_columns}u", i.depth), "row")
            column = body.let(
                Term(f"first_column + {i.text} % {block.all_columns}u", i.depth), "column"
            )
            write_results(self.places, row, column, f"partial[{i.text} / 4u][{i.text} % 4u]")
