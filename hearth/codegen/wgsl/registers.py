"""Contractions straight from memory: every thread computes a block of results on its own.

Nothing is staged in workgroup memory and no thread waits for another.  That is the fastest where
workgroup memory is ordinary memory, as in software, and where a product is too small for tiles.

With quads four threads, neighbours in their subgroup, have the same rows: each reads a quarter and
gives it to the others.  That takes neighbours in the workgroup to be neighbours in the subgroup,
which WGSL does not promise; a device where it is not so fails the recorded step.
"""

from __future__ import annotations

from dataclasses import dataclass

from hearth.codegen.wgsl.blocks import ThreadBlocks, cut_into_blocks
from hearth.codegen.wgsl.body import Body
from hearth.codegen.wgsl.contraction import Contraction, Operand, Places
from hearth.codegen.wgsl.layout import TYPICAL_BATCH
from hearth.codegen.wgsl.module import WgslKernel, assemble
from hearth.codegen.wgsl.operands import clamped_quad
from hearth.codegen.wgsl.sums import Share, Sums
from hearth.codegen.wgsl.term import Term
from hearth.codegen.wgsl.values import write_stores


@dataclass(frozen=True, slots=True)
class Registers(ThreadBlocks):
    """Nothing but threads and their results."""

    has_quads: bool = False  # four threads read their rows together; `wide` is a multiple of 4


def emit_registers(contraction: Contraction, shape: Registers) -> WgslKernel:
    """A module in which every thread sums a block of results."""
    body = Body(contraction.kernel.params, contraction.vectors(lambda o: o.is_depth_vector))
    grid = cut_into_blocks(body, contraction, shape.all_rows, shape.all_columns)
    across, down = grid.across, grid.down
    body.line(f"let slice = workgroup / {across} / {down};")
    # Neighbours in time have the smaller operand in common as a whole, and it stays in a cache.
    row = f"workgroup % {down} * {shape.all_rows}u"
    column = f"workgroup / {down} % {across} * {shape.all_columns}u"
    if contraction.rows.size.at(TYPICAL_BATCH) > contraction.columns.size.at(TYPICAL_BATCH):
        row = f"workgroup / {across} % {down} * {shape.all_rows}u"
        column = f"workgroup % {across} * {shape.all_columns}u"
    body.line(f"let first_row = {row} + thread / {shape.wide}u * 4u;")
    body.line(f"let first_column = {column} + thread % {shape.wide}u * 4u;")
    places = Places(body, contraction, Term("slice"))
    rows = [
        clamped_quad(body, contraction.rows, f"first_row + {i * shape.high * 4}u", 0,
                     shape.all_rows)
        for i in range(shape.rows // 4)
    ]  # fmt: skip
    columns = [
        clamped_quad(body, contraction.columns, f"first_column + {i * shape.wide * 4}u", 0,
                     shape.all_columns)
        for i in range(shape.columns // 4)
    ]  # fmt: skip
    sums = Sums(places, rows, columns, _own_rows(body, contraction, shape))
    sums.declare()
    sums.run(Share())
    _finish(places, sums, shape)
    method = f"{shape.rows} x {shape.columns} in the registers of a thread"
    return assemble(contraction.kernel, body, shape.threads, grid.workgroups, method)


def _own_rows(body: Body, contraction: Contraction, shape: Registers) -> list[Term]:
    """The row that this thread reads of each four, where a quad reads them together."""
    if not shape.has_quads:
        return []
    body.needs_subgroups = True
    body.line("let quad_thread = subgroup_thread % 4u;")
    limit = body.dim(contraction.rows.size - 1).text
    firsts = (f"first_row + {i * shape.high * 4}u" for i in range(shape.rows // 4))
    return [body.let(Term(f"min({first} + quad_thread, {limit})"), "own") for first in firsts]


def _finish(places: Places, sums: Sums, shape: Registers) -> None:
    """The stores, written out: an array of results with a running index would live in memory."""
    body, contraction = places.body, places.contraction
    rows, columns = ([p for quad in quads for p in quad] for quads in (sums.rows, sums.columns))
    has_row = _existence(body, contraction.rows, "first_row", shape.high, shape.all_rows, len(rows))
    has_column = _existence(
        body, contraction.columns, "first_column", shape.wide, shape.all_columns, len(columns)
    )
    for i, row in enumerate(rows):
        with body.block_if(has_row[i]):
            for j, column in enumerate(columns):
                with body.block_if(has_column[j]):
                    sum_ = Term(sums.result(i, j), body.depth)
                    write_stores(
                        body, contraction.stores, places.at(row=row, column=column), [sum_]
                    )


def _existence(
    body: Body, operand: Operand, origin: str, threads: int, width: int, count: int
) -> list[str | None]:
    """The conditions that positions are not past the operand's end, where that is not sure."""
    if operand.size.divided_by(width) is not None:
        return [None] * count
    limit = body.dim(operand.size).text
    offsets = (4 * threads * (i // 4) + i % 4 for i in range(count))
    tests = (Term(f"{origin} + {offset}u < {limit}") for offset in offsets)
    return [body.let(test, "exists").text for test in tests]
