"""Whole training steps on every Python runner against PyTorch, in many configurations."""

from __future__ import annotations

from functools import cache

import pytest

import hearth
from hearth.driver.compiled import Compiled
from tests.driver.configurations import CONFIGURATIONS

RUNNERS = [
    pytest.param("reference"),
    pytest.param("wasm", marks=pytest.mark.wasm),
    pytest.param("webgpu", marks=pytest.mark.webgpu),
]


@cache
def compiled(name: str) -> Compiled:
    return hearth.compile(*CONFIGURATIONS[name]())


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_outputs_gradients_and_ten_steps_agree(name: str, runner: str) -> None:
    bundle = compiled(name)
    report = hearth.verify(bundle, runner, cases=4, step=bundle.step)
    assert report.ok, str(report)
    assert report.compared["weight"] >= 4


def test_compiling_does_not_touch_the_users_objects() -> None:
    step, inputs, targets = CONFIGURATIONS["adamw_groups"]()
    before = {k: v.clone() for k, v in step.model.state_dict().items()}
    hearth.compile(step, inputs, targets, backends=["wasm"])
    assert step.model.training
    assert not step.optimizer.state
    assert all(p.grad is None for p in step.model.parameters())
    assert all(before[k].equal(v) for k, v in step.model.state_dict().items())
