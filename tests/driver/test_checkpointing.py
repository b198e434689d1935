"""`torch.utils.checkpoint` in a model takes less memory in the bundle, and changes no number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import hearth
from hearth.bundle.memory import plan_memory
from hearth.driver.compiled import Compiled

WIDTH, BATCH = 24, 64


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop = nn.LayerNorm(WIDTH), nn.Dropout(0.3)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.drop(self.down(torch.tanh(self.up(self.norm(x)))))


class Blocks(nn.Module):
    def __init__(self, recomputes: bool) -> None:
        super().__init__()
        self.blocks, self.head = nn.ModuleList(Block() for _ in range(3)), nn.Linear(WIDTH, 5)
        self.recomputes = recomputes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.recomputes else block(x)
        return self.head(x)


def compiled(recomputes: bool) -> Compiled:
    torch.manual_seed(0)
    model = Blocks(recomputes)
    step = hearth.TrainStep(model, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters()))
    examples = torch.zeros(1, WIDTH), torch.zeros(1, dtype=torch.long)
    bundle: Compiled = hearth.compile(step, *examples, backends=("wasm",))
    return bundle


def train(bundle: Compiled, folder: Path) -> tuple[Any, dict[str, Any]]:
    """The losses of some steps of two batch sizes, and the whole state after them."""
    bundle.save(folder, runtime=False)
    random = np.random.default_rng(0)
    batches = [
        ((random.normal(size=(n, WIDTH)).astype("f4"),), (random.integers(0, 5, n),))
        for n in (BATCH, 7, BATCH)
    ]
    with hearth.open_runner(folder, "wasm", seed=3) as runner:
        return runner.train_many(batches), runner.export_state()


@pytest.mark.wasm
def test_a_checkpoint_in_the_model_makes_the_step_smaller_and_no_bit_different(
    tmp_path: Path,
) -> None:
    kept, recomputed = compiled(False), compiled(True)
    needs = [plan_memory(b.manifest, BATCH).program_bytes["train"] for b in (kept, recomputed)]
    # Of a block remain its input, and while its gradient is computed, what it computes again.
    assert needs[1] < 0.75 * needs[0]
    losses, state = train(kept, tmp_path / "kept")
    losses_again, state_again = train(recomputed, tmp_path / "recomputed")
    assert losses.tolist() == losses_again.tolist()
    assert state.keys() == state_again.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(state_again[name], value, err_msg=name)
