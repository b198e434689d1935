"""Learning rate schedules: PyTorch's own scheduler runs at compile time, its rates become a table.

So every scheduler of `torch.optim.lr_scheduler` has its own values in the browser, composed ones
and those of the user too, and no formula is written twice.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from hearth.errors import InvalidInputError, UnsupportableError

DEFAULT_LENGTH = 1000


@dataclass(frozen=True, eq=False)
class Schedule:
    """A scheduler, and how often its `step` is called.

    `length` is for how many epochs or steps its rates are recorded; after the last the rate stays.
    A scheduler that ends by itself, such as OneCycleLR, is recorded to its end at most.

    >>> model = torch.nn.Linear(2, 2)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> halving = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    >>> learning_rates(Schedule(halving, length=3)).tolist()
    [[0.1], [0.05], [0.025]]
    """

    scheduler: LRScheduler
    interval: Literal["epoch", "step"] = "epoch"
    length: int = DEFAULT_LENGTH

    def __post_init__(self) -> None:
        if self.interval not in ("epoch", "step"):
            raise InvalidInputError(
                f"interval is {self.interval!r}", remedy='pass "epoch" or "step"'
            )
        if type(self.length) is not int or self.length < 1:
            raise InvalidInputError(f"length is {self.length!r}", remedy="pass a positive integer")
        if isinstance(self.scheduler, ReduceLROnPlateau):
            raise UnsupportableError(
                "ReduceLROnPlateau cannot be recorded",
                why="its rates depend on losses that nobody knows yet",
                remedy="pass `callbacks: [reduceOnPlateau({…})]` to trainer.fit in the page",
            )
        if not isinstance(self.scheduler, LRScheduler):
            raise InvalidInputError(
                f"scheduler is a {type(self.scheduler).__name__}",
                remedy="pass a scheduler of torch.optim.lr_scheduler",
            )


def learning_rates(schedule: Schedule) -> NDArray[np.float64]:
    """The rates of all parameter groups from now on, float64 [intervals, groups].

    A tail of equal rows is one row.  The scheduler itself stays as it is.  Raises
    `UnsupportableError` for one that changes more than the learning rate.
    """
    scheduler: Any = copy.deepcopy(schedule.scheduler)
    groups = scheduler.optimizer.param_groups
    others = _others(groups)
    rows = [[float(group["lr"]) for group in groups]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "step() before optimizer.step()": nothing is trained
        while len(rows) < schedule.length:
            try:
                scheduler.step()
            except ValueError:  # OneCycleLR has no more steps
                break
            rows.append([float(group["lr"]) for group in groups])
            _check_others(schedule, others, _others(groups))
    while len(rows) > 1 and rows[-1] == rows[-2]:
        rows.pop()
    return np.array(rows, np.float64)


def _others(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in group.items() if k not in ("params", "lr")} for group in groups]


def _check_others(schedule: Schedule, before: list[Any], now: list[Any]) -> None:
    if before == now:
        return
    name = type(schedule.scheduler).__name__
    changed = {k for old, new in zip(before, now, strict=True) for k in old if old[k] != new[k]}
    raise UnsupportableError(
        f"the scheduler {name} also changes {', '.join(sorted(changed))}",
        why="only the learning rate is an input of the compiled step",
        remedy="pass cycle_momentum=False to it",
    )


def check_schedule(schedule: Schedule, optimizer: torch.optim.Optimizer) -> None:
    """Raises `InvalidInputError` where the scheduler drives another optimizer."""
    if schedule.scheduler.optimizer is not optimizer:
        raise InvalidInputError(
            "the scheduler belongs to another optimizer",
            remedy="make it from the optimizer of this TrainStep",
        )
