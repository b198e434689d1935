"""A step of several micro-batches is PyTorch's loop: (loss / n).backward() n times, then step()."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hearth
from hearth import TrainStep
from hearth.capture.random import replay_random
from hearth.driver.compiled import Compiled
from hearth.driver.runners import open_runner
from hearth.errors import InvalidInputError
from hearth.runtime.bundle_runner import BundleRunner
from hearth.steps.mixed import LOSS_SCALE

SEED = 2**40 + 7
CLIP = 0.5
Batch = tuple[Any, Any]


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))


def with_draws_and_buffers() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.4), nn.Linear(16, 3)
    )


def step_of(make: Callable[[], nn.Module], **options: Any) -> TrainStep:
    torch.manual_seed(2)
    model = make()
    first, *rest = model.parameters()
    optimizer = torch.optim.AdamW([{"params": [first], "lr": 0.02}, {"params": rest}], lr=0.01)
    return TrainStep(model, nn.CrossEntropyLoss(), optimizer, CLIP, accumulate=True, **options)


def compiled(step: TrainStep) -> Compiled:
    examples = torch.zeros(2, 6), torch.zeros(2, dtype=torch.long)
    return hearth.compile(step, *examples, backends=["wasm"])


@contextmanager
def running(bundle: Compiled, path: Path, device: str) -> Iterator[BundleRunner]:
    bundle.save(path, runtime=False)
    runner = open_runner(path, device)
    assert isinstance(runner, BundleRunner)
    runner.seed = SEED
    yield runner
    runner.close()


def batches(sizes: Sequence[int], seed: int = 0) -> list[Batch]:
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(b, 6)).astype(np.float32), rng.integers(0, 3, b)) for b in sizes]


def micro_seed(k: int) -> torch.Tensor:
    """The two words of the seed of micro-batch k, by the formula of spec/manifest.md."""
    return torch.tensor([SEED % 2**32, (SEED // 2**32 + k * 0x9E3779B9) % 2**32])


def train_eagerly(step: TrainStep, steps: Sequence[list[Batch]]) -> dict[str, Any]:
    """PyTorch in float64; the weights at the end."""
    model = step.model.double()
    losses: list[float] = []
    for number, parts in enumerate(steps):
        step.optimizer.zero_grad()
        for k, (x, y) in enumerate(parts):
            with replay_random(micro_seed(k), number):
                outputs = model(torch.from_numpy(x).double())
                loss = nn.functional.cross_entropy(outputs, torch.from_numpy(y))
                losses.append(loss.item())
                (loss / len(parts)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        step.optimizer.step()
    return {"losses": losses, **{k: v.numpy() for k, v in model.state_dict().items()}}


def train_compiled(runner: BundleRunner, steps: Sequence[list[Batch]]) -> dict[str, Any]:
    losses = []
    for number, parts in enumerate(steps):
        for x, y in parts:
            losses.append(runner.accumulate_batch((x,), (y,)).loss)
            assert runner.step == number
        assert runner.apply_gradients()["norm"] > 0
        assert runner.step == number + 1
    return {"losses": losses, **runner.export_weights()}


def assert_close(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("device", ["reference", "wasm"])
def test_four_batches_of_8_are_one_batch_of_32(tmp_path: Path, device: str) -> None:
    parts = [batches([8] * 4, seed) for seed in range(5)]
    whole = [[tuple(np.concatenate(a) for a in zip(*p, strict=True))] for p in parts]
    with running(compiled(step_of(plain)), tmp_path, device) as runner:
        found = train_compiled(runner, parts)
    expected = train_eagerly(step_of(plain), whole)  # type: ignore[arg-type]
    means = np.reshape(found.pop("losses"), (5, 4)).mean(1)
    np.testing.assert_allclose(means, expected.pop("losses"), rtol=1e-5)
    assert_close(found, expected)


@pytest.mark.parametrize("device", ["reference", "wasm"])
def test_draws_buffers_and_uneven_steps_are_those_of_the_eager_loop(
    tmp_path: Path, device: str
) -> None:
    steps = [batches([8, 8, 8], 1), batches([8, 5], 2), batches([8], 3), batches([8] * 4, 4)]
    with running(compiled(step_of(with_draws_and_buffers)), tmp_path, device) as runner:
        found = train_compiled(runner, steps)
    # The bias before BatchNorm has no gradient but rounding errors, which Adam makes whole steps.
    expected = train_eagerly(step_of(with_draws_and_buffers), steps)
    assert_close(
        found, {k: v for k, v in expected.items() if k not in ("0.bias", "1.running_mean")}
    )


def test_one_micro_batch_draws_and_trains_as_a_whole_step_does(tmp_path: Path) -> None:
    ((x, y),) = batches([8])
    bundle = compiled(step_of(with_draws_and_buffers))
    with running(bundle, tmp_path, "wasm") as runner:
        before = runner.export_state()
        whole = runner.train_batch((x,), (y,))
        trained = runner.export_state()
        runner.load_state(before)
        part = runner.accumulate_batch((x,), (y,))
        # The gradients of another batch in between are another program's business.
        runner.gradients((x[:3],), (y[:3],))
        norm = runner.apply_gradients()["norm"]
        again = runner.export_state()
    assert part.loss == whole.loss
    assert norm == pytest.approx(whole.metrics["norm"], rel=1e-6)
    for name, value in trained.items():
        np.testing.assert_allclose(again[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_step_that_is_given_up_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    first, second, other = batches([8, 8, 8])
    with running(compiled(step_of(plain)), tmp_path, "wasm") as runner:
        start = runner.export_state()
        expected = train_compiled(runner, [[first, second]])
        runner.load_state(start)
        runner.accumulate_batch((other[0] * 1e30,), (other[1],))
        runner.load_state(start)
        found = train_compiled(runner, [[first, second]])
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_gradients_that_overflow_leave_the_update_out(tmp_path: Path) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
    step = step_of(plain, precision="float16", scaler=scaler)
    parts = batches([8, 8])
    with running(compiled(step), tmp_path, "wasm") as runner:
        before = runner.export_weights()

        def take_a_step() -> dict[str, Any]:
            for x, y in parts:
                runner.accumulate_batch((x,), (y,))
            runner.apply_gradients()
            return runner.export_state()

        state = take_a_step()
        assert state[LOSS_SCALE] == 2.0**29  # once a step, not once a part
        for name, value in before.items():
            np.testing.assert_array_equal(state[name], value)
        runner.load_state({LOSS_SCALE: np.array(2.0**10, np.float32)})
        state = take_a_step()
        assert state[LOSS_SCALE] == 2.0**10
        assert any((state[name] != value).any() for name, value in before.items())


def test_what_cannot_be_accumulated_is_refused(tmp_path: Path) -> None:
    ((x, y),) = batches([8])
    with (
        running(compiled(step_of(plain)), tmp_path / "with", "reference") as runner,
        pytest.raises(InvalidInputError, match="no gradients to apply"),
    ):
        runner.apply_gradients()
    model = plain()
    bare = TrainStep(model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), 0.1))
    bundle = compiled(bare)
    assert {"accumulate", "apply"}.isdisjoint(bundle.manifest.programs)
    with running(bundle, tmp_path / "without", "reference") as runner:
        for call in (lambda: runner.accumulate_batch((x,), (y,)), runner.apply_gradients):
            with pytest.raises(InvalidInputError, match="accumulate=True"):
                call()
    with pytest.raises(InvalidInputError, match="accumulate is 4"):
        TrainStep(model, nn.CrossEntropyLoss(), bare.optimizer, accumulate=4)  # type: ignore[arg-type]
