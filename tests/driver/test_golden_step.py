"""The recorded step asks of a device what float32 can keep, and no more."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import hearth
from hearth.bundle.safetensors import decode_safetensors
from hearth.driver.compiled import Compiled
from hearth.driver.golden import GOLDEN_BATCH, GOLDEN_SEED, needed_tolerance
from hearth.driver.samples import random_batch


class Kinked(nn.Module):
    """Beside much that is smooth a ReLU of w·x - c, which kinks at c."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.w, self.v = nn.Parameter(torch.rand(6) + 0.5), nn.Parameter(torch.rand(6) + 0.5)
        self.slope, self.c = slope, nn.Buffer(torch.tensor(0.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kink = torch.relu(x @ self.w - self.c)
        return self.slope * kink + x @ self.v + 20.0 * (x @ self.w)


def compiled(distance: float, slope: float) -> Compiled:
    """With the kink at a distance from what one sample of the recorded batch gives."""
    model = Kinked(slope)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    step = hearth.TrainStep(model, lambda y, t: (y - t).mean(), optimizer)
    example = torch.zeros(2, 6), torch.zeros(2)
    plain = hearth.compile(step, *example, backends=["wasm"])
    rng = np.random.default_rng(GOLDEN_SEED)
    (x,), _ = random_batch(plain.manifest.programs["train"].inputs, GOLDEN_BATCH, rng)
    with torch.no_grad():
        model.c.fill_(float(torch.from_numpy(x[0]).double() @ model.w.double()) - distance)
    return hearth.compile(step, *example, backends=["wasm"])


def recorded(bundle: Compiled) -> tuple[set[str], dict[str, float]]:
    golden = bundle.manifest.golden
    assert golden is not None
    names = set(decode_safetensors(bundle.files[golden.file], golden.file).tensors)
    return names, golden.tolerances or {}


def test_far_from_kinks_every_value_is_recorded_at_the_usual_tolerance() -> None:
    names, own = recorded(compiled(distance=0.3, slope=1.0))
    assert {"loss", "gradient/w", "gradient/v", "parameter/w"} <= names
    assert own == {}


def test_a_gradient_next_to_a_kink_has_a_tolerance_of_its_own() -> None:
    names, own = recorded(compiled(distance=1e-7, slope=0.2))
    assert {"loss", "gradient/w", "gradient/v"} <= names
    assert set(own) == {"gradient/w", "parameter/w"}
    assert 1e-3 < own["gradient/w"] < 0.1


def test_a_gradient_that_rounding_decides_is_left_out() -> None:
    names, own = recorded(compiled(distance=1e-7, slope=50.0))
    assert {"loss", "gradient/v"} <= names
    assert "gradient/w" not in names | set(own)


@pytest.mark.parametrize(
    ("rounded", "moved", "needed"),
    [
        (1e-6, 1e-5, 1e-3),  # the usual tolerance
        (2e-3, 1e-5, 8e-3),
        (1e-6, 1e-2, 4e-2),
        (1e-6, 1e-1, None),
        (1e-6, float("nan"), None),
    ],
)
def test_a_device_may_be_off_four_times_as_far_as_float32(
    rounded: float, moved: float, needed: float | None
) -> None:
    exact = np.array([0.25, -1.0])
    others = exact + np.array([[rounded, 0], [0, 0], [0, -moved]])
    found = needed_tolerance(exact, list(others))
    assert found == (None if needed is None else pytest.approx(needed, rel=1e-3))
