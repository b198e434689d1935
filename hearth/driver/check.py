"""`hearth.check`: every gap of a model at once, without raising."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from hearth.errors import HearthError
from hearth.lowering.lower import Gap, find_gaps
from hearth.steps.optimizer_state import describe_optimizer
from hearth.steps.programs import capture_programs
from hearth.steps.train_step import TrainStep

Tensors = torch.Tensor | Sequence[torch.Tensor]


@dataclass(frozen=True)
class Report:
    """What stands between a training step and a bundle.

    `gaps` are operators without a lowering; `error` is what stopped capture, if anything did.
    """

    gaps: tuple[Gap, ...]
    error: HearthError | None = None

    @property
    def ok(self) -> bool:
        return not self.gaps and self.error is None

    def __str__(self) -> str:
        if self.error is not None:
            return str(self.error)
        if not self.gaps:
            return "every operator is supported"
        lines = [f"{len(self.gaps)} unsupported operators:"]
        lines += [f"  {gap.op}\n    in {gap.origin}\n    {gap.hint}" for gap in self.gaps]
        return "\n".join(lines)


def check(step: TrainStep, inputs: Tensors, targets: Tensors) -> Report:
    """Every operator that `hearth.compile` would refuse, at once; raises nothing of Hearth's.

    What stops capture itself is reported alone: there is no graph yet that could show more.
    """
    names = {parameter: name for name, parameter in step.parameters.items()}
    try:
        programs = capture_programs(step, inputs, targets)
        describe_optimizer(step.optimizer, names)
    except HearthError as error:
        return Report((), error)
    captured = (
        programs.gradients, programs.evaluate, programs.predict, programs.optimizer.graph,
    )  # fmt: skip
    found = {(g.op, g.origin): g for aten in captured for g in find_gaps(aten)}
    return Report(tuple(found.values()))
