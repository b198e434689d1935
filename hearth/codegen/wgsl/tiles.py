"""Contractions by tiles: a workgroup stages both operands in workgroup memory.

Each thread keeps a block of results in registers and, for every step of the sum, multiplies a
column of `tile_a` by a row of `tile_b`.  Both tiles are stored with the sum as the slow axis, so
the inner loop is the same whichever way the operands lie in memory; they differ only in which
threads fetch what (`Operand.is_depth_fast`), and in whether they turn it on the way.  Positions
past an edge are clamped, not tested: they compute results that are not stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import reduce

from hearth.codegen.wgsl.blocks import ThreadBlocks, locate_block
from hearth.codegen.wgsl.body import Body
from hearth.codegen.wgsl.contraction import Contraction, Operand, Places
from hearth.codegen.wgsl.coordinates import Coordinates
from hearth.codegen.wgsl.epilogue import write_results
from hearth.codegen.wgsl.module import WgslKernel, assemble, ceil_div
from hearth.codegen.wgsl.operands import COMPONENTS, clamped_quad, load_quad
from hearth.codegen.wgsl.term import Term
from hearth.codegen.wgsl.values import vector
from hearth.ir.dim import Dim, product

Place = Callable[[Term, Term], Coordinates]  # a position along an operand and along the sum


@dataclass(frozen=True, slots=True)
class Tile(ThreadBlocks):
    """Threads, their results, and the steps of the sum at once."""

    depth: int


def emit_tiles(contraction: Contraction, tile: Tile) -> WgslKernel:
    """A module that computes a contraction by tiles."""
    body = Body(contraction.kernel.params, contraction.vectors(lambda o: o.is_flat_vector))
    workgroups = locate_block(body, contraction, tile.all_rows, tile.all_columns)
    body.line(f"let tx = thread % {tile.wide}u;")
    body.line(f"let ty = thread / {tile.wide}u;")
    _Tiles(contraction, tile, body).run()
    method = f"in tiles of {tile.all_rows} x {tile.all_columns}"
    return assemble(contraction.kernel, body, tile.threads, workgroups, method)


class _Tiles:
    def __init__(self, contraction: Contraction, tile: Tile, body: Body) -> None:
        self.contraction, self.tile, self.body = contraction, tile, body
        self.places = Places(body, contraction, Term("slice"))
        self.depth = product(contraction.depth)
        self.names = [[f"c{i}_{j}" for j in range(tile.columns // 4)] for i in range(tile.rows)]

    def run(self) -> None:
        body, tile, contraction = self.body, self.tile, self.contraction
        for name in (name for row in self.names for name in row):
            body.line(f"var {name} = vec4<f32>();")
        rows, columns = contraction.rows, contraction.columns
        with body.range_loop(*self.needed(*self.share()), tile.depth) as start:
            self.fetch("a", rows, tile.all_rows, "first_row", start, self.row_place)
            self.fetch("b", columns, tile.all_columns, "first_column", start, self.column_place)
            body.line("workgroupBarrier();")
            self.multiply()
            body.line("workgroupBarrier();")
        self.finish()

    def share(self) -> tuple[str, str]:
        """Where this workgroup's part of the sum begins and ends; all but the last are whole."""
        body, shares, depth = self.body, self.contraction.shares, self.tile.depth
        limit = body.dim(self.depth).text
        if shares == 1:
            return "0u", limit
        parts = ceil_div(body, self.depth, shares * depth)
        body.line(f"let share_start = {self.places.share} * {parts.text} * {depth}u;")
        body.line(f"let share_end = min(share_start + {parts.text} * {depth}u, {limit});")
        return "share_start", "share_end"

    def needed(self, start: str, end: str) -> tuple[str, str]:
        """Of a part of the sum, what is left without factors of zero: see graph.Triangular."""
        t, body, tile = self.contraction.product, self.body, self.tile
        lower = t.triangular if t is not None else None
        if t is None or lower is None:
            return start, end
        starts, ends = [start], [end]
        behind_rows = f"first_row + {tile.all_rows}u"
        if lower.a and t.transpose_a:
            starts.append("first_row")
        elif lower.a:
            ends.append(behind_rows)
        if lower.b and t.transpose_b:
            ends.append(f"first_column + {tile.all_columns}u")
        elif lower.b:
            starts.append("first_column")
        if lower.result:
            ends.append(f"select(0u, {end}, first_column < {behind_rows})")
        body.line(f"let needed_start = {_nested('max', starts)} / {tile.depth}u * {tile.depth}u;")
        body.line(f"let needed_end = {_nested('min', ends)};")
        return "needed_start", "needed_end"

    def row_place(self, position: Term, depth: Term) -> Coordinates:
        return self.places.at(row=position, depth=depth)

    def column_place(self, position: Term, depth: Term) -> Coordinates:
        return self.places.at(column=position, depth=depth)

    # ------------------------------------------------------------ workgroup memory

    def fetch(
        self, name: str, operand: Operand, width: int, origin: str, start: Term,
        place: Place,
    ) -> None:  # fmt: skip
        """Copy `depth` steps of one operand into `tile_NAME`, four positions per vec4."""
        quads = width // 4
        stride = quads + 1  # one more against bank conflicts
        self.body.workgroup_arrays[f"tile_{name}"] = "vec4<f32>", self.tile.depth * stride
        if operand.is_flat_vector and not operand.is_vector:
            self.fetch_transposed(name, operand, width, origin, start, place)
            return
        counts = (self.tile.depth, quads) if operand.is_depth_fast else (quads, self.tile.depth)
        with self.shared_out(name, *counts) as (near, far):
            depth, quad = (near, far) if operand.is_depth_fast else (far, near)
            text = f"{origin} + {quad.text} * 4u"
            positions = clamped_quad(self.body, operand, text, quad.depth, width)
            value = self.quad(operand, place, positions, self.step(start, depth))
            self.body.line(f"tile_{name}[{depth.text} * {stride}u + {quad.text}] = {value};")

    def fetch_transposed(
        self, name: str, operand: Operand, width: int, origin: str, start: Term,
        place: Place,
    ) -> None:  # fmt: skip
        """The same where four steps lie together in memory: blocks of 4 x 4, turned on the way."""
        body, quads = self.body, width // 4
        with self.shared_out(name, self.tile.depth // 4, quads) as (near, quad):
            text = f"{origin} + {quad.text} * 4u"
            positions = clamped_quad(body, operand, text, quad.depth, width)
            first = body.let(Term(f"{near.text} * 4u", near.depth), f"{name}_step")
            depth, exists = self.step(start, first, steps=4)
            rows = []
            for position in positions:
                rows.append(body.fresh(f"{name}_row"))
                value = vector(body, operand.value, place(position, depth))
                body.line(f"let {rows[-1]} = {_where(value, exists)};")
            for i, component in enumerate(COMPONENTS):
                column = ", ".join(f"{row}.{component}" for row in rows)
                at = f"({first.text} + {i}u) * {quads + 1}u + {quad.text}"
                body.line(f"tile_{name}[{at}] = vec4<f32>({column});")

    @contextmanager
    def shared_out(self, name: str, near: int, far: int) -> Iterator[tuple[Term, Term]]:
        """A block for each of `near * far` items of a thread; neighbours differ in the first."""
        body, threads = self.body, self.tile.threads
        first, second = (Term(f"thread {op} {near}u", 0, is_atomic=False) for op in "%/")
        rounds = near * far // threads
        with ExitStack() as stack:
            if rounds == 0:
                stack.enter_context(body.block(f"if (thread < {near * far}u)"))
            if rounds > 1:
                step = stack.enter_context(body.loop(Dim.of(rounds)))
                text = f"{second.operand} + {step.text} * {threads // near}u"
                second = Term(text, step.depth, is_atomic=False)
            yield body.let(first, f"{name}_near"), body.let(second, f"{name}_far")

    def step(self, start: Term, depth: Term, steps: int = 1) -> tuple[Term, str | None]:
        """The step of the sum, clamped, and the condition that it exists if that is not sure.

        Of several steps at once, the first; there are all of them or none.
        """
        level = max(start.depth, depth.depth)
        at = self.body.let(Term(f"{start.text} + {depth.text}", level, is_atomic=False), "k")
        if self.depth.divided_by(self.tile.depth) is not None:
            return at, None
        limit = self.body.dim(self.depth).text
        clamped = self.body.let(Term(f"min({at.text}, {limit} - {steps}u)", level), "k")
        return clamped, f"{at.text} < {limit}"

    def quad(self, operand: Operand, place: Place, positions: list[Term],
             step: tuple[Term, str | None]) -> str:  # fmt: skip
        """A vec4 of four neighbours at one step of the sum, zero past the end of the sum."""
        depth, exists = step
        value = load_quad(self.body, operand, [place(p, depth) for p in positions])
        return _where(value, exists)

    # ------------------------------------------------------------ arithmetic

    def multiply(self) -> None:
        body, tile = self.body, self.tile
        a_stride, b_stride = tile.all_rows // 4 + 1, tile.all_columns // 4 + 1
        with body.block(f"for (var k = 0u; k < {tile.depth}u; k++)"):
            for j in range(tile.columns // 4):
                body.line(f"let b{j} = tile_b[k * {b_stride}u + {_plus('tx', j * tile.wide)}];")
            for i in range(tile.rows // 4):
                body.line(f"let a{i} = tile_a[k * {a_stride}u + {_plus('ty', i * tile.high)}];")
            for i, row in enumerate(self.names):
                for j, name in enumerate(row):
                    body.line(f"{name} += a{i // 4}.{COMPONENTS[i % 4]} * b{j};")

    def finish(self) -> None:
        """The stores; the results go through an array so that the epilogue is written once."""
        body, tile = self.body, self.tile
        names = [name for row in self.names for name in row]
        body.line(f"var results = array<vec4<f32>, {len(names)}>({', '.join(names)});")
        with body.loop(Dim.of(tile.rows)) as i:
            row = f"first_row + (ty + {i.text} / 4u * {tile.high}u) * 4u + {i.text} % 4u"
            row_term = body.let(Term(row, i.depth, is_atomic=False), "row")
            with body.loop(Dim.of(tile.columns)) as j:
                column = f"first_column + (tx + {j.text} / 4u * {tile.wide}u) * 4u + {j.text} % 4u"
                column_term = body.let(Term(column, j.depth, is_atomic=False), "column")
                at = f"{i.text} * {tile.columns // 4}u + {j.text} / 4u"
                value = f"results[{at}][{j.text} % 4u]"
                write_results(self.places, row_term, column_term, value)


def _where(value: str, exists: str | None) -> str:
    """A vec4, or zeros."""
    return value if exists is None else f"select(vec4<f32>(), {value}, {exists})"


def _nested(function: str, values: list[str]) -> str:
    """A function of two values, over all of them."""
    return reduce(lambda a, b: f"{function}({a}, {b})", values)


def _plus(name: str, offset: int) -> str:
    return f"{name} + {offset}u" if offset else name
