"""An augmented step: deterministic per seed and step, equal to PyTorch, absent in evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import hearth
from hearth.capture.random import replay_random
from hearth.driver.oracle import Oracle
from hearth.errors import CaptureError, InvalidInputError
from hearth.functions.augmentation import Compose, Normalize, RandomChoice, from_bytes
from hearth.functions.color import color_jitter
from hearth.functions.geometry import random_crop, random_flip
from hearth.functions.mixing import cutmix, mixup, one_hot
from hearth.runtime.bundle_runner import BundleRunner
from hearth.steps.programs import capture_augment, capture_gradients

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 3, 8, 8)).astype(np.int32)
LABELS = RNG.integers(0, 4, 6)
SEED = 0x0123_4567_89AB_CDEF

# Of bytes and labels: jittered, cropped, flipped, and mixed with another sample.
mixing = Compose(
    [
        from_bytes,
        partial(random_crop, padding=2),
        random_flip,
        partial(color_jitter, brightness=0.4, saturation=0.4),
        partial(one_hot, classes=4),
        RandomChoice([mixup, cutmix]),
    ]
)


def pairs(images: torch.Tensor, labels: torch.Tensor) -> tuple[Any, ...]:
    """mixup as its authors write it: two targets, and one share for the batch."""
    share, images = torch.rand(()), from_bytes(images)
    mixed = share * images + (1 - share) * images.roll(1, 0)
    return mixed, (labels, labels.roll(1, 0), share)


def loss_of_pairs(
    outputs: torch.Tensor,
    labels: torch.Tensor,
    others: torch.Tensor | None = None,
    share: torch.Tensor | None = None,
) -> torch.Tensor:
    if others is None or share is None:
        return F.cross_entropy(outputs, labels)
    both = F.cross_entropy(outputs, labels), F.cross_entropy(outputs, others)
    return share * both[0] + (1 - share) * both[1]


def step_with(
    augmentation: Callable[..., Any] | None, loss: Any = F.cross_entropy
) -> tuple[hearth.TrainStep, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(
        Normalize([0.5] * 3, [0.25] * 3),
        nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Flatten(), nn.Dropout(0.25), nn.Linear(256, 4),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    step = hearth.TrainStep(model, loss, optimizer, augmentation=augmentation)
    return step, torch.zeros(1, 3, 8, 8, dtype=torch.int32), torch.zeros(1, dtype=torch.long)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("augmented") / "dist"
    hearth.compile(*step_with(mixing)).save(path, runtime=False)
    return path


@pytest.fixture
def runner(folder: Path) -> Iterator[BundleRunner]:
    with hearth.open_runner(folder, "wasm", seed=SEED) as opened:
        yield opened


def weights_after(runner: BundleRunner, steps: int) -> dict[str, np.ndarray]:
    for _ in range(steps):
        runner.train_batch((IMAGES,), (LABELS,))
    return runner.export_weights()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("wasm", "webgpu")]
)
def test_an_augmented_step_is_the_step_of_pytorch(folder: Path, name: str) -> None:
    report = hearth.verify(folder, name, cases=2, step=step_with(mixing)[0])
    assert report.ok, str(report)


@pytest.mark.wasm
def test_more_targets_than_were_given_reach_the_loss() -> None:
    step, *examples = step_with(pairs, loss_of_pairs)
    bundle = hearth.compile(step, *examples, backends=["wasm"])
    report = hearth.verify(bundle, "wasm", cases=1, step=step)
    assert report.ok, str(report)


@pytest.mark.wasm
def test_weights_after_some_augmented_steps_are_those_of_pytorch(runner: BundleRunner) -> None:
    oracle = Oracle(step_with(mixing)[0], torch.float64)
    for _ in range(5):
        oracle.train([IMAGES], [LABELS], SEED)
    for name, ours in weights_after(runner, 5).items():
        np.testing.assert_allclose(ours, oracle.weights[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.wasm
def test_a_resumed_run_draws_the_same_numbers_bit_for_bit(
    folder: Path, runner: BundleRunner
) -> None:
    weights_after(runner, 2)
    state = runner.export_state()
    through = weights_after(runner, 3)
    with hearth.open_runner(folder, "wasm", seed=1) as resumed:
        resumed.load_state(state)
        again = weights_after(resumed, 3)
    with hearth.open_runner(folder, "wasm", seed=1) as other:
        otherwise = weights_after(other, 5)
    assert all(np.array_equal(through[name], again[name]) for name in through)
    assert any(not np.array_equal(through[name], otherwise[name]) for name in through)


@pytest.mark.wasm
def test_evaluation_sees_the_batch_as_it_is(runner: BundleRunner) -> None:
    step = step_with(mixing)[0]
    with torch.no_grad():
        want = step.model.eval()(torch.from_numpy(IMAGES))
    (outputs,) = runner.predict((IMAGES,))
    np.testing.assert_allclose(outputs, want, rtol=1e-4, atol=1e-5)
    found = runner.evaluate_batch((IMAGES,), (LABELS,))
    np.testing.assert_allclose(found.loss, F.cross_entropy(want, torch.from_numpy(LABELS)), 1e-4)
    assert "accuracy" in found.metrics


@pytest.mark.wasm
def test_the_program_augment_gives_what_a_training_step_sees(runner: BundleRunner) -> None:
    step = step_with(mixing)[0]
    before = runner.export_state()
    drawn = [runner.run("augment", (IMAGES, np.int32(k)), (LABELS,)) for k in (0, 7)]
    after = runner.export_state()
    for k, found in zip((0, 7), drawn, strict=True):
        with replay_random(SEED, k):
            images, labels = step.augmentation(torch.from_numpy(IMAGES), torch.from_numpy(LABELS))
        np.testing.assert_allclose(found["input/0"], images, atol=1e-6)
        np.testing.assert_allclose(found["target/0"], labels, atol=1e-6)
    assert np.abs(drawn[0]["input/0"] - drawn[1]["input/0"]).max() > 0.1
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_the_program_augment_takes_and_gives_only_what_is_changed() -> None:
    def ports(augmentation: Callable[..., Any]) -> tuple[list[str], list[str]]:
        program = capture_augment(*step_with(augmentation, loss_of_pairs))
        data = [i.name for i in program.inputs if i.role != "seed"]
        return data, [o.name for o in program.outputs]

    flipped = Compose([from_bytes, random_flip])
    assert ports(flipped) == (["input/0", "draw"], ["input/0"])
    assert ports(pairs) == (["input/0", "target/0", "draw"], ["input/0", "target/1", "target/2"])


@pytest.mark.wasm
def test_a_label_out_of_range_is_refused_although_it_is_mixed(runner: BundleRunner) -> None:
    for call in (
        lambda bad: runner.train_batch((IMAGES,), (bad,)),
        lambda bad: runner.run("augment", (IMAGES, np.int32(0)), (bad,)),
    ):
        with pytest.raises(InvalidInputError, match="holds 9"):
            call(np.full(6, 9))


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        (lambda x, y: from_bytes(x), "returned 1 tensors for 1 inputs and 1 targets"),
        (lambda x: (from_bytes(x), None), "returned a tuple"),
        (lambda x: x.shape, "returned a Size"),
        (lambda x: from_bytes(x)[0], r"made shape \[3, 8, 8\] of input 0"),
        (lambda x, y: (from_bytes(x)[:1], y), "made shape"),
        (partial(random_crop, padding=0, size=(9, 9)), "a crop of 9x9 does not fit"),
        (RandomChoice([from_bytes, lambda x: from_bytes(x)[..., 1:]]), "must keep shapes"),
    ],
)
def test_a_wrong_return_is_a_typed_error(augmentation: Any, message: str) -> None:
    with pytest.raises(CaptureError, match=message):
        capture_gradients(*step_with(augmentation))


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="augmentation is a list"):
        step_with([random_flip])  # type: ignore[arg-type]
