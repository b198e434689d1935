"""Whole architectures trained on the devices, at batch sizes they were not compiled with."""

from __future__ import annotations

from functools import cache

import pytest
import torch

import hearth
from hearth.driver.compiled import Compiled
from tests.architectures.models import ARCHITECTURES

pytestmark = pytest.mark.slow

# WebGPU runs in software here, many times slower than WebAssembly: one small model of each kind.
ON_WEBGPU = (
    "bottleneck_resnet", "autoencoder", "variational_autoencoder", "gpt", "instance_norm", "lora",
)  # fmt: skip


@cache
def compiled(name: str) -> Compiled:
    torch.manual_seed(0)
    backends = ["wasm", "webgpu"] if name in ON_WEBGPU else ["wasm"]
    return hearth.compile(*ARCHITECTURES[name](), backends=backends)


def check(name: str, runner: str) -> None:
    bundle = compiled(name)
    report = hearth.verify(bundle, runner, cases=2, step=bundle.step)
    assert report.ok, str(report)
    assert report.compared["gradient"] >= 2 * len(bundle.step.trainable)


@pytest.mark.wasm
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_train_like_pytorch_in_webassembly(name: str) -> None:
    check(name, "wasm")


@pytest.mark.webgpu
@pytest.mark.parametrize("name", ON_WEBGPU)
def test_architectures_train_like_pytorch_on_webgpu(name: str) -> None:
    check(name, "webgpu")
