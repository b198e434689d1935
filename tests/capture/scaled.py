"""A function of torch as a model with one weight: captured in float64, with its gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from hearth.capture.opset import CORE_OPS
from hearth.steps.programs import capture_gradients
from hearth.steps.train_step import TrainStep
from tests.capture.eager import feeds, largest_error, run_eager

Function = Callable[[torch.Tensor], torch.Tensor]


class Scaled(nn.Module):
    def __init__(self, function: Function, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.scale, self.function = nn.Parameter(torch.rand(shape) + 0.5), function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x * self.scale)


def assert_equals_pytorch(function: Function, shape: tuple[int, ...]) -> None:
    """A batch of `shape` through the function, forward and gradient, at other batch sizes."""
    torch.manual_seed(1)
    model = Scaled(function, shape)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step = TrainStep(model, lambda o, y: (o * o).mean() + y.mean(), optimizer)
    graph = capture_gradients(step, torch.randn(4, *shape), torch.zeros(4))
    assert {n.target for n in graph.nodes} <= set(CORE_OPS)
    for batch in (2, 5):
        x, y = torch.randn(batch, *shape), torch.zeros(batch)
        expected = run_eager(step, (x,), (y,))
        assert largest_error(graph, batch, feeds(step, (x,), (y,)), expected) <= 1e-12
