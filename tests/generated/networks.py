"""Random networks as PyTorch source: what hypothesis draws, shrinks, and prints when one fails.

A network is a list of statements.  Each takes earlier values by name, so that values are shared,
used several times and viewed again; it is kept if PyTorch runs it at three batch sizes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import strategies as st
from torch import nn

from hearth.capture.random import replay_random

BATCH_SIZES = (1, 2, 7)  # a statement must have one rank at all of them
MOST_ELEMENTS = 4000  # at the largest of these
Shape = tuple[int | str, ...]  # "B" is the batch
Draw = st.DrawFn


@dataclass(frozen=True)
class Network:
    """`source` defines `class Network(nn.Module)`; inputs are floats, and whole numbers below 5."""

    source: str
    inputs: tuple[tuple[str, Shape], ...]  # kind ("float" or "int") and shape

    def __repr__(self) -> str:
        return f"\n{self.source}\n# inputs: {', '.join(f'{k} {s}' for k, s in self.inputs)}\n"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))  # hypothesis would print one line

    def module(self) -> nn.Module:
        scope: dict[str, Any] = {"torch": torch, "F": F, "nn": nn}
        exec(compile(self.source, "<network>", "exec"), scope)
        torch.manual_seed(0)
        made: nn.Module = scope["Network"]()
        return made

    def draw_inputs(self, batch: int) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(batch)
        return [_input(kind, shape, batch, generator) for kind, shape in self.inputs]


def _input(kind: str, shape: Shape, batch: int, generator: torch.Generator) -> torch.Tensor:
    extents = [batch if e == "B" else int(e) for e in shape]
    if kind == "int":
        return torch.randint(5, extents, generator=generator)
    return torch.randn(extents, dtype=torch.float64, generator=generator).float().double()


@dataclass
class Writer:
    """The network so far, and its values at all batch sizes."""

    draw: Draw
    values: dict[str, tuple[torch.Tensor, ...]] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)  # name -> expression that makes it
    lines: list[str] = field(default_factory=list)
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)

    def pick(self, *, floats: bool = True, least_rank: int = 0, has_fixed: bool = False) -> str:
        """A value; with `has_fixed`, one with an axis that does not depend on the batch."""
        fitting = [
            name
            for name, (value, *_) in self.values.items()
            if value.is_floating_point() == floats
            and value.dim() >= least_rank
            and (not has_fixed or any(self.extents(name)))
        ]
        return self.draw(st.sampled_from(fitting or list(self.values)))

    def extents(self, name: str) -> tuple[int | None, ...]:
        """None where the extent depends on the batch."""
        shapes = (value.shape for value in self.values[name])
        return tuple(e[0] if len(set(e)) == 1 else None for e in zip(*shapes, strict=True))

    def rank(self, name: str) -> int:
        return self.values[name][0].dim()

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def choose(self, options: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(list(options)))

    def axis(self, name: str, *, fixed: bool = False) -> int:
        """An axis, negative or not; a fixed one does not depend on the batch."""
        axes = [i for i, e in enumerate(self.extents(name)) if not fixed or e is not None]
        rank = self.rank(name)
        axis = self.choose(axes) if axes else 0
        return axis - rank if rank and self.draw(st.booleans()) else axis

    def extent(self, name: str, axis: int) -> int:
        extents = self.extents(name)
        return (extents[axis] if extents else 1) or 1

    def parameter(self, *extents: int) -> str:
        name = f"p{len(self.tensors)}"
        self.parameters[name] = f"nn.Parameter(torch.randn({list(extents)}) / 2)"
        generator = torch.Generator().manual_seed(len(self.tensors))
        self.tensors[name] = torch.randn(extents, dtype=torch.float64, generator=generator) / 2
        return f"self.{name}"

    def try_line(self, expression: str) -> None:
        """Keep the statement if PyTorch runs it; parameters that no statement uses go."""
        results = self._evaluated(expression)
        if results is not None:
            name = f"v{len(self.values)}"
            self.values[name] = results
            self.lines.append(f"{name} = {expression}")
        used = set(re.findall(r"self\.(\w+)", "\n".join(self.lines)))
        self.parameters = {name: how for name, how in self.parameters.items() if name in used}

    def _evaluated(self, expression: str) -> tuple[torch.Tensor, ...] | None:
        owner = type("self", (), self.tensors)
        results = []
        for k in range(len(BATCH_SIZES)):
            scope = {"torch": torch, "F": F, "self": owner}
            scope |= {name: values[k] for name, values in self.values.items()}
            try:
                with replay_random(0, 0), torch.no_grad():
                    result = eval(expression, scope)
            except (RuntimeError, IndexError, ValueError, TypeError, ZeroDivisionError):
                return None
            if not isinstance(result, torch.Tensor) or result.numel() > MOST_ELEMENTS:
                return None
            results.append(result)
        one_rank = len({result.dim() for result in results}) == 1
        is_kept = one_rank and _is_counted([result.numel() for result in results])
        return tuple(results) if is_kept else None


def _is_counted(counts: Sequence[int]) -> bool:
    """Whether means of so many elements are compiled: c + d B or c B^k, but not B (B + 2)."""
    first, second, third = BATCH_SIZES
    is_affine = (counts[1] - counts[0]) * (third - first) == (counts[2] - counts[0]) * (
        second - first
    )
    powers = ([counts[0] * batch**k for batch in BATCH_SIZES] for k in range(5))
    return counts[0] > 0 and (is_affine or list(counts) in powers)


Template = Callable[[Writer], str]


@st.composite
def networks(
    draw: Draw,
    inputs: tuple[tuple[str, Shape], ...],
    templates: Sequence[Template],
    most_lines: int = 10,
) -> Network:
    writer = Writer(draw)
    for k, (kind, shape) in enumerate(inputs):
        drawn = [_input(kind, shape, b, torch.Generator().manual_seed(b)) for b in BATCH_SIZES]
        writer.values[f"x{k}"] = tuple(drawn)
    for _ in range(draw(st.integers(1, most_lines))):
        writer.try_line(draw(st.sampled_from(list(templates)))(writer))
    return Network(_source(writer, len(inputs)), inputs)


def _source(writer: Writer, inputs: int) -> str:
    arguments = ", ".join(f"x{k}" for k in range(inputs))
    last = [name for name, (v, *_) in writer.values.items() if v.is_floating_point()][-3:]
    made = [f"        self.{name} = {how}" for name, how in writer.parameters.items()]
    lines = [f"        {line}" for line in writer.lines]
    return "\n".join(
        [
            "class Network(nn.Module):",
            "    def __init__(self):",
            "        super().__init__()",
            *made,
            f"    def forward(self, {arguments}):",
            *lines,
            f"        return {', '.join(last)},",
        ]
    )
