"""Training causal attention, which leaves out what the mask takes away, agrees with PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

import hearth
from hearth.driver.compiled import Compiled
from hearth.ir.kernel import DotTemplate
from tests.architectures.sequence import GPT, next_token_loss

LENGTH = 72  # more than two blocks of rows

Masked = Callable[[torch.Tensor], torch.Tensor]


def filled(scores: torch.Tensor) -> torch.Tensor:
    later = torch.triu(torch.ones(LENGTH, LENGTH, dtype=torch.bool), 1)
    return scores.masked_fill(later, -math.inf)


def kept_below(scores: torch.Tensor) -> torch.Tensor:
    return scores.masked_fill(torch.tril(torch.ones(LENGTH, LENGTH)) == 0, -math.inf)


def added(scores: torch.Tensor) -> torch.Tensor:
    return scores + nn.Transformer.generate_square_subsequent_mask(LENGTH)


class Attention(nn.Module):
    """One head, written out."""

    def __init__(self, masked: Masked) -> None:
        super().__init__()
        self.mix, self.masked = nn.Linear(8, 24), masked

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.mix(x).chunk(3, -1)
        scores = self.masked(query @ key.transpose(1, 2) / math.sqrt(8))
        return scores.softmax(-1) @ value


def triangular_products(compiled: Compiled) -> int:
    """How many kernels of the training step leave something out."""
    steps = compiled.manifest.programs["train"].steps
    templates = [compiled.kernels[step.kernel].template for step in steps]
    return sum(isinstance(t, DotTemplate) and t.triangular is not None for t in templates)


@pytest.mark.wasm
def test_a_gpt_over_several_blocks_trains_like_pytorch() -> None:
    torch.manual_seed(0)
    model = GPT(layers=1, width=16, length=LENGTH)
    text = torch.randint(0, 11, (3, LENGTH))
    step = hearth.TrainStep(model, next_token_loss, torch.optim.Adam(model.parameters(), lr=1e-3))
    compiled = hearth.compile(step, text, text, backends=("wasm",))
    assert triangular_products(compiled) == 6
    report = hearth.verify(compiled, "wasm", cases=2)
    assert report.ok, str(report)


@pytest.mark.wasm
@pytest.mark.parametrize("masked", [filled, kept_below, added])
def test_every_way_to_write_a_causal_mask_is_seen(masked: Masked) -> None:
    torch.manual_seed(0)
    model = Attention(masked)
    x, y = torch.randn(2, LENGTH, 8), torch.randn(2, LENGTH, 8)
    step = hearth.TrainStep(model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1))
    compiled = hearth.compile(step, x, y, backends=("wasm",))
    assert triangular_products(compiled) == 6
    report = hearth.verify(compiled, "wasm", cases=2)
    assert report.ok, str(report)
