"""A backend that computes wrong numbers is found out at load, and training goes on elsewhere."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import hearth
from bench.wasm_steps import make_step
from hearth.bundle.write import write_bundle
from hearth.driver.compiled import Compiled
from hearth.runtime.chromium import ChromiumTrainer

pytestmark = pytest.mark.chromium


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    step = hearth.TrainStep(model, nn.CrossEntropyLoss(), optimizer)
    return hearth.compile(step, torch.zeros(2, 6), torch.zeros(2, dtype=torch.long))


def break_kernels(compiled: Compiled, path: Path, *, wgsl: bool, wasm: bool = False) -> Path:
    """A bundle with wrong kernels and right checksums, as a bad driver would compute."""
    files = dict(compiled.files)
    for name in [n for n in files if wgsl and n.endswith(".wgsl")]:
        head, first, *others = re.split(r"(?m)^(?=// kernel: )", files[name].decode())
        first, count = re.subn(r"(p3\[[^\]]*\]) = (.+);", r"\1 = 1.01 * (\2);", first)
        # That variant begins with a reduction of rows; all others with the product of a layer.
        assert count or name == "kernels.subgroups.wgsl"
        files[name] = "".join((head, first, *others)).encode()
    if wasm:
        # Adam's epsilon becomes large: every update is far too small.
        old, new = (np.float32(v).tobytes() for v in (1e-8, 10.0))
        for name in [n for n in files if n.endswith(".wasm")]:
            assert old in files[name]
            files[name] = files[name].replace(old, new)
    write_bundle(path, replace(compiled.manifest, files={}), files)
    return path


def batch() -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(1)
    return (rng.normal(size=(5, 6)).astype(np.float32),), (np.arange(5, dtype=np.int64) % 3,)


def test_a_right_bundle_runs_where_it_was_asked_to(compiled: Compiled, tmp_path: Path) -> None:
    compiled.save(tmp_path / "right")
    with ChromiumTrainer(tmp_path / "right", "webgpu") as trainer:
        assert trainer.warnings == ()


def test_a_broken_gpu_kernel_is_caught_and_training_goes_on_on_the_cpu(
    compiled: Compiled, tmp_path: Path
) -> None:
    path = break_kernels(compiled, tmp_path / "broken", wgsl=True)
    with ChromiumTrainer(path, "webgpu", allow_fallback=True) as trainer:
        assert ", wasm," in trainer.device
        assert any("webgpu" in w.lower() for w in trainer.warnings), trainer.warnings
        losses = [trainer.train_batch(*batch()).loss for _ in range(20)]
    assert losses[-1] < losses[0]


def test_a_device_that_is_wrong_everywhere_is_refused(compiled: Compiled, tmp_path: Path) -> None:
    path = break_kernels(compiled, tmp_path / "wrong", wgsl=True, wasm=True)
    with pytest.raises(hearth.BackendError, match="recorded step"):
        ChromiumTrainer(path, "wasm")


def test_a_deep_network_whose_activations_lie_next_to_kinks_is_not_refused(tmp_path: Path) -> None:
    """PyTorch's float32 errs by a hundredth in gradients of ResNet-18, batch by batch."""
    step, x, y = make_step("resnet18", 2)
    compiled = hearth.compile(step, x, y, backends=["wasm"])
    golden = compiled.manifest.golden
    assert golden is not None
    assert golden.tolerances
    compiled.save(tmp_path / "resnet18")
    with ChromiumTrainer(tmp_path / "resnet18", "wasm") as trainer:
        assert trainer.warnings == ()
