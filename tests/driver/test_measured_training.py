"""Training steps that also tell their metrics and the norm of their gradients, as PyTorch does."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import hearth
from hearth import metrics
from hearth.driver.runners import open_runner
from hearth.errors import InvalidInputError
from hearth.runtime.bundle_runner import BundleRunner
from hearth.steps.augment import Augmentation

EXAMPLE = torch.zeros(2, 6), torch.zeros(2, dtype=torch.long)
MEASURES = {"accuracy": metrics.accuracy, "top_2": metrics.top_k(2),
            "confusion": metrics.confusion_matrix(3)}  # fmt: skip


def model() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))


def step_of(net: nn.Module, **options: Any) -> hearth.TrainStep:
    groups = [{"params": [p]} for p in net.parameters()]  # the norm is that of all groups
    return hearth.TrainStep(net, nn.CrossEntropyLoss(), torch.optim.SGD(groups, lr=0.5), **options)


def batch(size: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 6, generator=random)
    return x, torch.randint(0, 3, (size,), generator=random)


def opened(step: hearth.TrainStep, folder: Path) -> BundleRunner:
    hearth.compile(step, *EXAMPLE, backends=["wasm"]).save(folder, runtime=False)
    runner = open_runner(folder, "wasm")
    assert isinstance(runner, BundleRunner)
    return runner


def doubled(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


@pytest.mark.parametrize(("augmentation", "clip"), [(None, None), (doubled, 0.3)])
def test_a_step_tells_what_pytorch_would(
    tmp_path: Path, augmentation: Augmentation | None, clip: float | None
) -> None:
    net = model()
    step = step_of(
        net, metrics=MEASURES, training_metrics=True, gradient_norm=True,
        augmentation=augmentation, clip_grad_norm=clip,
    )  # fmt: skip
    runner = opened(step, tmp_path)
    oracle = copy.deepcopy(net).double()
    optimizer = torch.optim.SGD(oracle.parameters(), lr=0.5)
    for number, size in enumerate((5, 32, 2)):
        x, y = batch(size, number)
        found = runner.train_batch((x.numpy(),), (y.numpy(),)).metrics
        outputs = oracle((x if augmentation is None else augmentation(x)).double())
        optimizer.zero_grad()
        nn.functional.cross_entropy(outputs, y).backward()
        limit = float("inf") if clip is None else clip
        norm = torch.nn.utils.clip_grad_norm_(oracle.parameters(), limit)
        assert set(found) == {"accuracy", "top_2", "norm"}  # counts are for evaluations
        assert found["accuracy"] == pytest.approx(float(metrics.accuracy(outputs, y)))
        assert found["top_2"] == pytest.approx(float(metrics.top_k(2)(outputs, y)))
        assert found["norm"] == pytest.approx(float(norm), rel=1e-5)
        optimizer.step()


def test_the_norm_is_that_of_what_clipping_by_value_leaves(tmp_path: Path) -> None:
    net = model()
    runner = opened(step_of(net, gradient_norm=True, clip_grad_value=0.01), tmp_path)
    x, y = batch(9)
    nn.functional.cross_entropy(net(x), y).backward()
    torch.nn.utils.clip_grad_value_(net.parameters(), 0.01)
    norm = torch.nn.utils.get_total_norm([p.grad for p in net.parameters() if p.grad is not None])
    found = runner.train_batch((x.numpy(),), (y.numpy(),)).metrics
    assert found["norm"] == pytest.approx(float(norm), rel=1e-5)


def test_parts_of_a_step_tell_it_too(tmp_path: Path) -> None:
    net = model()
    step = step_of(net, training_metrics=True, gradient_norm=True, accumulate=True)
    runner = opened(step, tmp_path)
    oracle = copy.deepcopy(net)
    parts = [batch(6, 1), batch(6, 2)]
    for x, y in parts:
        found = runner.accumulate_batch((x.numpy(),), (y.numpy(),)).metrics
        outputs = oracle(x)
        (nn.functional.cross_entropy(outputs, y) / 2).backward()
        assert found == {"accuracy": pytest.approx(float(metrics.accuracy(outputs, y)))}
    gradients = [p.grad for p in oracle.parameters() if p.grad is not None]
    norm = float(torch.nn.utils.get_total_norm(gradients))
    assert runner.apply_gradients() == {"norm": pytest.approx(norm, rel=1e-5)}


def test_what_nobody_asked_for_is_not_computed() -> None:
    plain = hearth.compile(step_of(model(), metrics=MEASURES), *EXAMPLE, backends=["wasm"])
    asked = hearth.compile(
        step_of(model(), metrics=MEASURES, training_metrics=True, gradient_norm=True),
        *EXAMPLE, backends=["wasm"],
    )  # fmt: skip
    roles = {output.role for output in plain.manifest.program("train").outputs}
    assert roles == {"loss", "output"}
    steps = [len(bundle.manifest.program("train").steps) for bundle in (plain, asked)]
    assert steps[0] < steps[1]


@pytest.mark.parametrize("name", ["training_metrics", "gradient_norm"])
def test_anything_but_yes_or_no_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match=name):
        step_of(model(), **{name: "accuracy"})


def zero(*_: torch.Tensor) -> torch.Tensor:
    return torch.zeros(())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("loss", {}),
        ("loss", {"training_metrics": True}),
        ("norm", {"training_metrics": True}),
        ("norm", {"training_metrics": True, "gradient_norm": True}),
        ("penalty", {"training_metrics": True, "penalty": zero}),
    ],
)
def test_a_metric_with_the_name_of_another_number_is_refused(
    name: str, options: dict[str, Any]
) -> None:
    measures = {"accuracy": metrics.accuracy, name: zero}
    with pytest.raises(InvalidInputError, match=f"cannot be called '{name}'") as raised:
        step_of(model(), metrics=measures, **options)
    assert f"another key in metrics, such as 'my_{name}'" in str(raised.value)


def test_a_name_that_a_step_does_not_tell_is_free(tmp_path: Path) -> None:
    step_of(model(), metrics={"norm": zero, "penalty": zero}, gradient_norm=True, penalty=zero)
    step = step_of(model(), metrics={"penalty": zero}, training_metrics=True)
    x, y = batch(4)
    runner = opened(step, tmp_path)
    assert runner.train_batch((x.numpy(),), (y.numpy(),)).metrics == {"penalty": 0.0}
