"""Modules whose own code asks for values are captured all the same, and equal PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from hearth.capture.opset import CORE_OPS
from hearth.steps.programs import capture_gradients
from hearth.steps.train_step import TrainStep
from tests.capture.eager import feeds, largest_error, run_eager


class LargeVocabulary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(6, 20, [5, 12], div_value=2.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, 6)
        classes = torch.arange(len(rows)) * 7 % 20  # some of every cluster
        chosen: torch.Tensor = self.softmax(rows, classes).output
        return chosen


class Masked(nn.Module):
    """An encoder whose mask is made in `forward`, so that PyTorch asks whether it is causal."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
        encoded: torch.Tensor = self.encoder(x, mask)
        return encoded


class Uncertain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean, self.variance = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        loss = nn.GaussianNLLLoss(full=True, reduction="none", eps=0.2)
        value: torch.Tensor = loss(self.mean(x), x, self.variance(x).exp() * 0.3)
        return value


class Spoken(nn.Module):
    """Lengths differ, and a label repeats, within a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.score(x).log_softmax(2).transpose(0, 1)
        row = torch.arange(len(x))
        targets = torch.tensor([1, 1, 2]).expand(len(x), 3)
        loss = nn.CTCLoss(reduction="none")
        value: torch.Tensor = loss(scores, targets, 5 - row % 2, row % 4)
        return value


MODELS: dict[str, Callable[[], nn.Module]] = {
    "adaptive softmax": LargeVocabulary,
    "causal mask": Masked,
    "alignments": Spoken,
    "gaussian": Uncertain,
    "cumulative averages": lambda: nn.BatchNorm1d(5, momentum=None),
    "no running statistics": lambda: nn.BatchNorm1d(5, track_running_stats=False),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 4)),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_step_equals_pytorch(name: str) -> None:
    torch.manual_seed(1)
    model = MODELS[name]()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step = TrainStep(model, lambda o, y: (o * o).mean() + y.mean(), optimizer)
    graph = capture_gradients(step, torch.randn(4, 5, 6), torch.zeros(4))
    assert {n.target for n in graph.nodes} <= set(CORE_OPS)
    for batch in (2, 5):
        x, y = torch.randn(batch, 5, 6), torch.zeros(batch)
        expected = run_eager(step, (x,), (y,))
        assert largest_error(graph, batch, feeds(step, (x,), (y,)), expected) <= 1e-12
