"""Reductions across threads in two levels: within a subgroup by shuffles, then across subgroups.

The first level needs no memory and no barrier; the second has one value per subgroup.  The order is
always the same on a device, and every thread has the same result.  `subgroupAdd` would promise
neither, and the maximum of WGSL loses NaN.

This takes neighbours in the workgroup to be neighbours in the subgroup, which WGSL does not
promise; a device where it is not so fails the recorded step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hearth.codegen.wgsl.folds import Partial
from hearth.codegen.wgsl.spelling import TYPES
from hearth.codegen.wgsl.tree import Tree, pair
from hearth.ir.dtype import BOOL

SMALLEST, LARGEST = 4, 128  # threads of a subgroup, by WGSL


class SubgroupTree(Tree):
    """A tree for lanes of a point that are neighbours."""

    def _reduce(self, totals: Sequence[Partial], lanes: int, stride: int, first: str) -> list[str]:
        assert stride == 1
        if any(element == TYPES[BOOL] for partial in totals for _, element in partial.variables):
            return super()._reduce(totals, lanes, stride, first)  # there is no shuffle for them
        self.body.needs_subgroups = True
        self._within(totals, lanes)
        if lanes <= SMALLEST:
            return [partial.result for partial in totals]
        return self._across(totals, lanes, first)

    def _within(self, totals: Sequence[Partial], lanes: int) -> None:
        """Every thread gets what the lanes of its point in its subgroup have together."""
        body, apart = self.body, 1
        while apart < min(lanes, LARGEST):
            exists = f"subgroup_size > {apart}u" if apart >= SMALLEST else None
            with body.block_if(exists):
                for partial in totals:
                    others = []
                    for variable, _ in partial.variables:
                        others.append(body.fresh("other"))
                        body.line(f"let {others[-1]} = subgroupShuffleXor({variable}, {apart}u);")
                    partial.add(body, *pair(others))
            apart *= 2

    def _across(self, totals: Sequence[Partial], lanes: int, first: str) -> list[str]:
        body = self.body
        self.begin()
        body.line("// One value per subgroup, or per point where that is smaller.")
        width = body.fresh("width")
        body.line(f"let {width} = min(subgroup_size, {lanes}u);")
        with body.block(f"if (thread % {width} == 0u)"):
            arrays = self.share(totals, f"thread / {width}", self.threads // SMALLEST)
        body.line("workgroupBarrier();")
        results = []
        for partial, names in zip(totals, arrays, strict=True):
            own = [body.fresh("total") for _ in names]
            for variable, name in zip(own, names, strict=True):
                body.line(f"var {variable} = {name}[{first} / {width}];")
            total = replace(partial, value=own[0], position=pair(own)[1])
            with body.range_loop("1u", f"{lanes}u / {width}", 1) as k:
                total.add(body, *pair([f"{name}[{first} / {width} + {k.text}]" for name in names]))
            results.append(total.result)
        return results
