"""Whole architectures trained like PyTorch on every backend, at batch sizes not compiled with."""

from __future__ import annotations

import pytest

from tests.architectures.models import ARCHITECTURES
from tests.architectures.training import RUNNERS, STEPS, seeded, train

pytestmark = [pytest.mark.slow, pytest.mark.wasm, pytest.mark.webgpu, pytest.mark.chromium]


# Minutes on a GPU in software: docs/architectures.md has their twenty steps.
FEWER_STEPS = {"torchvision_mobilenet_v3_small": 4, "torchvision_resnet18": 4}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_trains_like_pytorch_on_every_backend(name: str) -> None:
    example = seeded(name)
    step, *_ = example
    runs = train(example, steps=FEWER_STEPS.get(name, STEPS)).runs
    assert tuple(runs) == RUNNERS
    for run in runs.values():
        assert run.report.ok, str(run.report)
        assert run.report.compared["losses"] == 1
        assert run.report.compared["weight"] == len(step.model.state_dict())
        assert run.report.compared["gradient"] == len(step.trainable)
