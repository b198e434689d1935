"""Loss scaling in the compiled step does what `torch.amp.GradScaler` does in eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hearth
from hearth import TrainStep
from hearth.bundle.checkpoint import (
    checkpoint_of,
    decode_checkpoint,
    encode_checkpoint,
    state_of,
)
from hearth.bundle.files import write_file
from hearth.driver.compiled import Compiled
from hearth.driver.oracle import Oracle
from hearth.driver.runners import open_runner
from hearth.errors import InvalidInputError
from hearth.runtime.bundle_runner import BundleRunner
from hearth.steps.mixed import GROWTH_TRACKER, LOSS_SCALE, UPDATES

OVERFLOWS = 2.0**24
Make = Callable[[Any], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Make] = {
    "adamw": lambda p: torch.optim.AdamW(p, 1e-3),
    "dampened": lambda p: torch.optim.SGD(p, 0.05, 0.9, dampening=0.2),
}


def step_of(optimizer: str = "adamw", scale: float = OVERFLOWS, **options: Any) -> TrainStep:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 4))
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=3)
    return TrainStep(
        model, nn.CrossEntropyLoss(), OPTIMIZERS[optimizer](model.parameters()),
        precision="float16", scaler=scaler, **options,
    )  # fmt: skip


def compiled(step: TrainStep) -> Compiled:
    return hearth.compile(
        step, torch.zeros(1, 20), torch.zeros(1, dtype=torch.long), backends=["wasm"]
    )


def batches(count: int) -> Iterator[tuple[Any, Any]]:
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield rng.normal(size=(8, 20)).astype(np.float32), rng.integers(0, 4, 8)


@contextmanager
def running(bundle: Compiled, path: Path, device: str = "wasm") -> Iterator[BundleRunner]:
    bundle.save(path, runtime=False)
    runner = open_runner(path, device)
    assert isinstance(runner, BundleRunner)
    yield runner
    runner.close()


@pytest.mark.parametrize(
    ("optimizer", "device"), [("adamw", "wasm"), ("dampened", "wasm"), ("adamw", "reference")]
)
def test_twenty_steps_scale_skip_and_grow_as_pytorchs(
    tmp_path: Path, optimizer: str, device: str
) -> None:
    step = step_of(optimizer, clip_grad_norm=1.0)
    oracle = Oracle(step, torch.float32)
    scales = []
    with running(compiled(step), tmp_path, device) as runner:
        for x, y in batches(20):
            result = runner.run("train", (x,), (y,))
            expected = oracle.train([x], [y], seed=0)
            state = runner.export_state()
            scales.append(float(state[LOSS_SCALE]))
            assert scales[-1] == oracle.loss_scale
            np.testing.assert_allclose(result["loss"], expected.loss, rtol=1e-5)
            for name, weight in oracle.weights.items():
                np.testing.assert_allclose(state[name], weight, rtol=0, atol=1e-6)
        assert runner.step == 20
        assert 0 < state[UPDATES] < 20
    assert scales[0] == OVERFLOWS / 2
    assert max(np.diff(scales)) > 0


def test_a_step_that_overflows_changes_nothing_but_the_scale(tmp_path: Path) -> None:
    with running(compiled(step_of()), tmp_path) as runner:
        before = runner.export_state()
        ((x, y),) = batches(1)
        loss = runner.train_batch((x,), (y,)).loss
        after = runner.export_state()
    assert np.isfinite(loss)
    changed = {n for n in before if not np.array_equal(before[n], after[n])}
    assert changed == {LOSS_SCALE, "hearth/step"}
    assert after[LOSS_SCALE] == OVERFLOWS / 2


def test_gradients_and_clipping_are_those_of_the_loss_itself(tmp_path: Path) -> None:
    step = step_of(scale=1024.0, clip_grad_norm=0.1)
    with running(compiled(step), tmp_path) as runner:
        ((x, y),) = batches(1)
        found = runner.gradients((x,), (y,)).gradients
        norm = runner.run("train", (x,), (y,))["norm"]
    exact = Oracle(step, torch.float64).gradients([x], [y], seed=0).gradients
    for name, gradient in exact.items():
        np.testing.assert_allclose(found[name], gradient, rtol=0, atol=2e-3)
    wanted = np.sqrt(sum(float((g**2).sum()) for g in exact.values()))
    np.testing.assert_allclose(norm, wanted, rtol=2e-3)


def test_a_checkpoint_goes_to_pytorch_and_back(tmp_path: Path) -> None:
    step = step_of()
    bundle = compiled(step)
    with running(bundle, tmp_path / "bundle") as runner:
        for x, y in batches(9):
            runner.train_batch((x,), (y,))
        state = runner.export_state()
    manifest = bundle.manifest
    data = encode_checkpoint(checkpoint_of(manifest, state, [1e-3]))
    assert {n: a.tolist() for n, a in state_of(manifest, decode_checkpoint(data)).items()} == {
        n: a.tolist() for n, a in state.items()
    }
    write_file(tmp_path / "run.safetensors", data)
    loaded = hearth.load_checkpoint(tmp_path / "run.safetensors")
    scaler = torch.amp.GradScaler("cpu")
    assert loaded.scaler is not None
    scaler.load_state_dict(loaded.scaler)
    assert scaler.get_scale() == state[LOSS_SCALE]
    assert scaler.state_dict()["_growth_tracker"] == state[GROWTH_TRACKER]
    assert scaler.get_growth_interval() == 3
    step.optimizer.load_state_dict(loaded.optimizer)
    hearth.save_checkpoint(
        tmp_path / "back.safetensors", step.model, step.optimizer, step=9, scaler=scaler
    )
    back = hearth.load_checkpoint(tmp_path / "back.safetensors")
    assert back.scaler == loaded.scaler


def test_a_run_without_scaling_goes_on_in_a_bundle_with_it(tmp_path: Path) -> None:
    step = step_of()
    for parameter in step.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    step.optimizer.step()
    hearth.save_checkpoint(tmp_path / "run.safetensors", step.model, step.optimizer)
    checkpoint = decode_checkpoint((tmp_path / "run.safetensors").read_bytes())
    assert checkpoint.scaler is None
    state = state_of(compiled(step_of()).manifest, checkpoint)
    assert state[UPDATES] == 1
    assert LOSS_SCALE not in state


@pytest.mark.parametrize(
    ("precision", "scaler", "is_scaled"),
    [
        ("float16", None, True),
        ("bfloat16", None, False),
        ("float32", None, False),
        ("float16", torch.amp.GradScaler("cpu", enabled=False), False),
        ("bfloat16", torch.amp.GradScaler("cpu"), True),
    ],
)
def test_float16_alone_is_scaled_unless_told_otherwise(
    precision: str, scaler: torch.amp.GradScaler | None, is_scaled: bool
) -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters())
    step = TrainStep(model, nn.MSELoss(), optimizer, precision=precision, scaler=scaler)
    assert (step.scaling is not None) == is_scaled
    if precision == "float16" and step.scaling:
        assert step.scaling.scale == 65536.0
        assert step.scaling.growth_interval == 2000


def test_what_is_no_scaler_is_refused() -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(InvalidInputError, match="scaler is a float"):
        TrainStep(
            model, nn.MSELoss(), torch.optim.SGD(model.parameters()),
            scaler=65536.0,  # type: ignore[arg-type]
        )  # fmt: skip
