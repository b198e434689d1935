"""The bytes that a program moves and holds, for programs where they can be counted by hand."""

from __future__ import annotations

import torch

import hearth
from hearth.traffic import Traffic, traffic_of

ROW = 4 * 8  # bytes


def traffic(function: object, *examples: torch.Tensor, batch: int) -> Traffic:
    manifest = hearth.compile_function(function, examples, backends=("wasm",)).manifest  # type: ignore[arg-type]
    return traffic_of(manifest, manifest.programs["run"], batch)


def test_one_kernel_moves_what_must_be_moved() -> None:
    x = torch.zeros(2, 8)
    found = traffic(lambda x: torch.tanh(x) + 1, x, batch=32)
    assert found == Traffic(moved=64 * ROW, needed=64 * ROW, held=64 * ROW, alive=64 * ROW)


def test_what_one_kernel_leaves_for_the_next_is_moved_twice() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.mm(torch.mm(x, x.t()), x)

    found = traffic(function, torch.zeros(2, 8), batch=32)
    square = 4 * 32 * 32
    assert found.moved == (32 * ROW + square) + (square + 32 * ROW + 32 * ROW)
    assert found.needed == 64 * ROW
    assert found.alive == square + 64 * ROW
    assert found.held >= found.alive


def test_state_counts_once_however_it_is_bound() -> None:
    model = torch.nn.Linear(8, 1)
    step = hearth.TrainStep(
        model, torch.nn.functional.mse_loss, torch.optim.SGD(model.parameters(), lr=0.1)
    )
    compiled = hearth.compile(step, torch.zeros(2, 8), torch.zeros(2, 1), backends=("wasm",))
    train = compiled.manifest.programs["train"]
    found = traffic_of(compiled.manifest, train, 16)
    parameters, data = 4 * 9, 4 * 16 * (8 + 1 + 1) + 4
    # A weight is read on its own, and updated as a part of the flat vector of its group.
    assert 2 * parameters + data <= found.needed <= compiled.manifest.state_bytes + data
    assert found.moved > found.needed
