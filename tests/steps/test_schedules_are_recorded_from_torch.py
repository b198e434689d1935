"""A scheduler of PyTorch becomes the table of the rates that it would set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as schedulers

from hearth import Schedule, TrainStep
from hearth.errors import InvalidInputError, UnsupportableError
from hearth.steps.schedule import learning_rates


def two_groups() -> torch.optim.Optimizer:
    first, second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    return torch.optim.SGD([{"params": [first]}, {"params": [second], "lr": 0.03}], lr=0.5)


MADE: dict[str, Callable[[Any], Any]] = {
    "step": lambda o: schedulers.StepLR(o, 7, gamma=0.3),
    "lambda": lambda o: schedulers.LambdaLR(o, [lambda t: 0.9**t, lambda t: 1 / (1 + t)]),
    "cyclic": lambda o: schedulers.CyclicLR(o, 0.01, 0.2, step_size_up=9, cycle_momentum=False),
    "restarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 5, T_mult=2, eta_min=1e-3),
    "sequence": lambda o: schedulers.SequentialLR(
        o, [schedulers.LinearLR(o, 0.1, 1, 10), schedulers.CosineAnnealingLR(o, 40)], [10]
    ),
    "chain": lambda o: schedulers.ChainedScheduler(
        [schedulers.ConstantLR(o, 0.2, 4), schedulers.ExponentialLR(o, 0.95)]
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_the_rates_are_those_that_the_scheduler_sets(name: str) -> None:
    optimizer = two_groups()
    scheduler = MADE[name](optimizer)
    found = learning_rates(Schedule(scheduler, length=60))
    expected = []
    for _ in range(60):
        expected.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    padded = np.concatenate([found, np.repeat(found[-1:], 60 - len(found), 0)])
    np.testing.assert_array_equal(padded, expected)


def test_a_schedule_begins_where_the_scheduler_is() -> None:
    optimizer = two_groups()
    scheduler = schedulers.ExponentialLR(optimizer, 0.5)
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    assert learning_rates(Schedule(scheduler, length=2))[:, 0].tolist() == [0.0625, 0.03125]
    assert optimizer.param_groups[0]["lr"] == 0.0625


def test_a_scheduler_that_ends_is_recorded_to_its_end_and_equal_rates_at_the_end_once() -> None:
    ends = schedulers.OneCycleLR(two_groups(), 0.5, total_steps=20, cycle_momentum=False)
    assert len(learning_rates(Schedule(ends, "step"))) == 21  # where PyTorch raises
    steps = schedulers.MultiStepLR(two_groups(), [3, 8])
    assert learning_rates(Schedule(steps)).shape == (9, 2)


def test_what_cannot_be_recorded_says_what_to_do() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.5, momentum=0.9)
    cycles = schedulers.OneCycleLR(optimizer, 0.5, total_steps=20)
    with pytest.raises(UnsupportableError, match=r"changes momentum[^\0]*cycle_momentum=False"):
        learning_rates(Schedule(cycles))
    with pytest.raises(UnsupportableError, match="reduceOnPlateau"):
        Schedule(schedulers.ReduceLROnPlateau(optimizer))
    with pytest.raises(InvalidInputError, match="interval is 'batch'"):
        Schedule(schedulers.StepLR(optimizer, 1), "batch")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="length is 0"):
        Schedule(schedulers.StepLR(optimizer, 1), length=0)
    with pytest.raises(InvalidInputError, match="scheduler is a float"):
        Schedule(0.1)  # type: ignore[arg-type]


def test_the_scheduler_must_belong_to_the_optimizer_of_the_step() -> None:
    model = nn.Linear(2, 2)
    ours = torch.optim.SGD(model.parameters(), lr=0.1)
    other = schedulers.StepLR(torch.optim.SGD(model.parameters(), lr=0.1), 1)
    with pytest.raises(InvalidInputError, match="another optimizer"):
        TrainStep(model, nn.CrossEntropyLoss(), ours, scheduler=other)
    step = TrainStep(model, nn.CrossEntropyLoss(), ours, scheduler=schedulers.StepLR(ours, 1))
    assert step.schedule is not None
    assert step.schedule.interval == "epoch"
