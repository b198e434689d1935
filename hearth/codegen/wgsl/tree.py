"""Reductions across the threads of a workgroup, as a tree in workgroup memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from hearth.codegen.wgsl.body import Body
from hearth.codegen.wgsl.folds import Partial

AT_ONCE = 8  # reductions of at most two variables each, for 256 threads: 16 KiB


class Tree:
    """Workgroup memory for the trees of one kernel; they share it one after another."""

    def __init__(self, body: Body, threads: int) -> None:
        self.body, self.threads = body, threads
        self.is_in_use = False

    def reduce(self, totals: Sequence[Partial], lanes: int, stride: int, first: str) -> list[str]:
        """Names of the results, which every thread gets.

        Lane `l` of a point is thread `first + l * stride`; the kernel has named its own `lane`.
        """
        results: list[str] = []
        for start in range(0, len(totals), AT_ONCE):
            results += self._reduce(totals[start : start + AT_ONCE], lanes, stride, first)
        return results

    def _reduce(self, totals: Sequence[Partial], lanes: int, stride: int, first: str) -> list[str]:
        body = self.body
        self.begin()
        arrays = self.share(totals, "thread", self.threads)
        body.line("workgroupBarrier();")
        with body.block(f"for (var half = {lanes // 2}u; half > 0u; half /= 2u)"):
            other = "thread + half" if stride == 1 else f"thread + half * {stride}u"
            with body.block("if (lane < half)"):
                body.line(f"let other = {other};")
                for partial, names in zip(totals, arrays, strict=True):
                    mine, theirs = ([f"{n}[{i}]" for n in names] for i in ("thread", "other"))
                    _at(partial, mine).add(body, *pair(theirs))
            body.line("workgroupBarrier();")
        results = []
        for names in arrays:
            results.append(body.fresh("total"))
            body.line(f"let {results[-1]} = {names[-1]}[{first}];")
        return results

    def begin(self) -> None:
        """Before workgroup memory is written again: every thread has read the result before."""
        if self.is_in_use:
            self.body.line("workgroupBarrier();")
        self.is_in_use = True

    def share(self, totals: Sequence[Partial], place: str, count: int) -> list[list[str]]:
        """Every variable into a place of an array of its own; the arrays of each reduction."""
        counts: Counter[str] = Counter()
        arrays: list[list[str]] = []
        for partial in totals:
            arrays.append([])
            for variable, element in partial.variables:
                name = f"shared_{element}_{counts[element]}"
                counts[element] += 1
                self.body.workgroup_arrays[name] = element, count
                self.body.line(f"{name}[{place}] = {variable};")
                arrays[-1].append(name)
        return arrays


def _at(partial: Partial, names: Sequence[str]) -> Partial:
    value, position = pair(names)
    return replace(partial, value=value, position=position)


def pair(names: Sequence[str]) -> tuple[str, str | None]:
    """A value, and its position where there is one."""
    return names[0], names[1] if len(names) > 1 else None
