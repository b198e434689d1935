"""Float16 numbers in two bytes, on an adapter with shader-f16: less memory, the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hearth
from hearth.bundle.memory import buffer_bytes, plan_memory
from hearth.bundle.read import read_bundle
from hearth.bundle.wgsl import GENERAL, HALVES
from hearth.driver.compiled import Compiled
from hearth.runtime.bundle_runner import BundleRunner
from hearth.runtime.webgpu import ADAPTER_VARIABLE, WebgpuDevice


@pytest.fixture(scope="module")
def bundle() -> Compiled:
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    model = nn.Sequential(*layers, nn.Linear(36, 16), nn.GELU(), nn.Linear(16, 4))
    step = hearth.TrainStep(
        model, nn.CrossEntropyLoss(), torch.optim.AdamW(model.parameters(), 1e-3),
        precision="float16", scaler=torch.amp.GradScaler("cpu", init_scale=1024.0),
    )  # fmt: skip
    example = torch.zeros(1, 1, 8, 8), torch.zeros(1, dtype=torch.long)
    return hearth.compile(step, *example, backends=["webgpu"])


def batches() -> list[Any]:
    rng = np.random.default_rng(0)
    return [
        (rng.normal(size=(7, 1, 8, 8)).astype(np.float32), rng.integers(0, 4, 7)) for _ in range(8)
    ]


def test_halves_take_half_the_memory(bundle: Compiled) -> None:
    manifest = bundle.manifest
    wide = plan_memory(manifest, 64).arena_bytes - manifest.state_bytes
    compact = plan_memory(manifest, 64, halves=True).arena_bytes - manifest.state_bytes
    assert compact < 0.7 * wide
    halves = [i for i, b in enumerate(manifest.buffers) if b.half]
    assert halves
    for i in halves:
        assert 2 * buffer_bytes(manifest, i, 3, halves=True) == buffer_bytes(manifest, i, 3)


def test_what_the_host_reads_and_writes_is_no_half(bundle: Compiled) -> None:
    manifest = bundle.manifest
    for program in manifest.programs.values():
        for port in (*program.inputs, *program.outputs):
            assert not manifest.buffers[port.buffer].half
    assert all(b.half is None for b in manifest.buffers if b.offset is not None)


def test_a_float32_bundle_has_no_halves() -> None:
    model = nn.Linear(3, 2)
    step = hearth.TrainStep(model, nn.MSELoss(), torch.optim.SGD(model.parameters(), 0.1))
    compiled = hearth.compile(step, torch.zeros(1, 3), torch.zeros(1, 2), backends=["webgpu"])
    assert compiled.manifest.wgsl is not None
    assert compiled.manifest.wgsl.halves is None
    assert all(p.half_slots is None for p in compiled.manifest.programs.values())


@pytest.mark.webgpu
def test_training_is_the_same_in_two_bytes_as_in_four(
    bundle: Compiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ADAPTER_VARIABLE, "llvmpipe")
    bundle.save(tmp_path, runtime=False)
    opened = read_bundle(tmp_path)
    states = []
    for variant in (GENERAL, HALVES, None):
        device = WebgpuDevice(opened, variant)
        assert device.stores_halves == (variant != GENERAL)
        with BundleRunner(opened, device, batch_size=3) as runner:
            for x, y in batches():
                runner.train_batch((x,), (y,))
            states.append(runner.export_state())
    for name, wide in states[0].items():
        for compact in states[1:]:
            np.testing.assert_allclose(compact[name], wide, rtol=1e-5, atol=1e-6, err_msg=name)
