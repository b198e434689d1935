"""How a contraction is cut into blocks of results, one for each workgroup."""

from __future__ import annotations

from dataclasses import dataclass

from hearth.codegen.wgsl.body import Body
from hearth.codegen.wgsl.contraction import Contraction
from hearth.codegen.wgsl.module import Workgroups, ceil_div, workgroup_index


@dataclass(frozen=True, slots=True)
class ThreadBlocks:
    """Threads (`wide` along columns times `high`), and results per thread (multiples of 4)."""

    wide: int
    high: int
    columns: int
    rows: int

    @property
    def threads(self) -> int:
        return self.wide * self.high

    @property
    def all_columns(self) -> int:
        return self.wide * self.columns

    @property
    def all_rows(self) -> int:
        return self.high * self.rows


@dataclass(frozen=True, slots=True)
class Grid:
    """The workgroups, and how many blocks lie beside and below each other, as WGSL."""

    workgroups: Workgroups
    across: str
    down: str


def cut_into_blocks(body: Body, contraction: Contraction, rows: int, columns: int) -> Grid:
    """Writes the index `workgroup`; blocks have so many rows and columns."""
    workgroups = (
        (contraction.batch, 1), (contraction.rows.size, rows), (contraction.columns.size, columns)
    )  # fmt: skip
    workgroup_index(body, workgroups)
    across = ceil_div(body, contraction.columns.size, columns).text
    down = ceil_div(body, contraction.rows.size, rows).text
    return Grid(workgroups, across, down)


def locate_block(body: Body, contraction: Contraction, rows: int, columns: int) -> Workgroups:
    """Writes where a workgroup's block begins, `first_row` and `first_column`, and its `slice`."""
    grid = cut_into_blocks(body, contraction, rows, columns)
    body.line(f"let first_row = workgroup / {grid.across} % {grid.down} * {rows}u;")
    body.line(f"let first_column = workgroup % {grid.across} * {columns}u;")
    body.line(f"let slice = workgroup / {grid.across} / {grid.down};")
    return grid.workgroups
