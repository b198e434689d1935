"""Mixed precision in a real Chromium.

SwiftShader has no shader-f16, so halves take four bytes; in the browser that
tools/float16_chromium makes they take two.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import hearth
from hearth.bundle.checkpoint import checkpoint_of, encode_checkpoint
from hearth.driver.compiled import Compiled
from hearth.driver.runners import open_runner
from hearth.steps.mixed import LOSS_SCALE, UPDATES

pytestmark = pytest.mark.chromium
OVERFLOWS = 2.0**24


@pytest.fixture(scope="module")
def bundle() -> Compiled:
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 4))
    model = nn.Sequential(*layers)
    scaler = torch.amp.GradScaler("cpu", init_scale=OVERFLOWS, growth_interval=3)
    step = hearth.TrainStep(
        model, nn.CrossEntropyLoss(), torch.optim.AdamW(model.parameters(), 1e-3),
        precision="float16", scaler=scaler,
    )  # fmt: skip
    return hearth.compile(step, torch.zeros(1, 1, 8, 8), torch.zeros(1, dtype=torch.long))


def test_skipped_steps_and_the_scale_are_those_of_wasm_outside(
    bundle: Compiled, tmp_path: Path
) -> None:
    bundle.save(tmp_path)
    rng = np.random.default_rng(0)
    batches = [
        ((rng.normal(size=(8, 1, 8, 8)).astype(np.float32),), (rng.integers(0, 4, 8),))
        for _ in range(20)
    ]
    states = {}
    for name in ("wasm", "chromium:wasm", "chromium:webgpu"):
        runner = open_runner(tmp_path, name)
        losses = [runner.train_batch(*batch).loss for batch in batches]
        assert np.isfinite(losses).all()
        states[name] = runner.export_state()
        runner.close()
    expected = states.pop("wasm")
    assert 0 < expected[UPDATES] < 20
    for state in states.values():
        assert state[LOSS_SCALE] == expected[LOSS_SCALE] < OVERFLOWS
        assert state[UPDATES] == expected[UPDATES]
        for name, value in expected.items():
            np.testing.assert_allclose(state[name], value, rtol=0, atol=1e-3, err_msg=name)
    assert encode_checkpoint(checkpoint_of(bundle.manifest, expected, [1e-3]))
