"""Metrics agree with scikit-learn, eager and compiled, on one batch and over ragged ones."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from sklearn import metrics as judge
from torch import nn

import hearth
from hearth import metrics
from hearth.bundle.read import read_bundle
from hearth.errors import CaptureError, InvalidInputError
from hearth.steps.programs import capture_evaluate

CLASSES = 5
RNG = np.random.default_rng(3)
SCORES = RNG.normal(size=(53, CLASSES)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, 53)
LABELS[::7] = metrics.IGNORED
KEPT = LABELS != metrics.IGNORED


def expected(scores: Any, labels: Any) -> dict[str, Any]:
    kept = labels != metrics.IGNORED
    scores, labels, known = scores[kept], labels[kept], np.arange(CLASSES)
    return {
        "accuracy": judge.accuracy_score(labels, scores.argmax(1)),
        "top_2": judge.top_k_accuracy_score(labels, scores, k=2, labels=known),
        "matrix": judge.confusion_matrix(labels, scores.argmax(1), labels=known),
    }


CHOSEN = {
    "accuracy": metrics.accuracy,
    "top_2": metrics.top_k(2),
    "matrix": metrics.confusion_matrix(CLASSES),
}


def step_of(chosen: dict[str, Any], **options: Any) -> hearth.TrainStep:
    model = nn.Linear(CLASSES, CLASSES)
    with torch.no_grad():
        model.weight.copy_(torch.eye(CLASSES))
        model.bias.zero_()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return hearth.TrainStep(model, F.cross_entropy, optimizer, metrics=chosen, **options)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(step_of(CHOSEN), tmp_path_factory.mktemp("measured"))


def compiled(step: hearth.TrainStep, folder: Path) -> Path:
    example = torch.from_numpy(SCORES[:4]), torch.from_numpy(LABELS[:4])
    hearth.compile(step, *example).save(folder)
    return folder


def test_the_examples_of_the_module_hold() -> None:
    tests = [t for t in doctest.DocTestFinder().find(metrics) if t.examples]
    runner = doctest.DocTestRunner()
    for test in tests:
        assert runner.run(test).failed == 0, test.name
    assert {t.name.rpartition(".")[2] for t in tests} >= {
        "accuracy", "top_k", "mean_absolute_error", "mean_squared_error", "confusion_matrix",
    }  # fmt: skip


@pytest.mark.parametrize("k", [1, 2, 3, CLASSES])
def test_top_k_is_that_of_scikit_learn(k: int) -> None:
    found = metrics.top_k(k)(torch.from_numpy(SCORES), torch.from_numpy(LABELS))
    known = {"labels": np.arange(CLASSES)} if k < CLASSES else None
    wanted = judge.top_k_accuracy_score(LABELS[KEPT], SCORES[KEPT], k=k, **known) if known else 1
    assert found.item() == pytest.approx(wanted)


def test_equal_outputs_and_nan_are_no_hits() -> None:
    equal, labels = torch.zeros(10, CLASSES), torch.arange(10) % CLASSES
    assert metrics.top_k(2)(equal, labels).item() == pytest.approx(2 / CLASSES)
    assert metrics.top_k(1)(equal, labels) == metrics.accuracy(equal, labels)
    assert metrics.top_k(2)(equal * torch.nan, labels).item() == 0
    assert metrics.accuracy(equal, torch.full((10,), metrics.IGNORED)).item() == 0


def test_pixels_count_as_samples_do() -> None:
    maps = RNG.normal(size=(2, CLASSES, 3, 4)).astype(np.float32)
    labels = RNG.integers(0, CLASSES, (2, 3, 4))
    wanted = expected(maps.transpose(0, 2, 3, 1).reshape(-1, CLASSES), labels.reshape(-1))
    for name, metric in CHOSEN.items():
        found = metric(torch.from_numpy(maps), torch.from_numpy(labels)).numpy()
        np.testing.assert_allclose(found, wanted[name], rtol=1e-6)


def test_errors_are_those_of_scikit_learn() -> None:
    x, y = SCORES[:, :2], SCORES[:, 2:4]
    given = torch.from_numpy(x), torch.from_numpy(y)
    for name in ("mean_absolute_error", "mean_squared_error"):
        found = getattr(metrics, name)(*given).item()
        assert found == pytest.approx(getattr(judge, name)(y, x))


@pytest.mark.parametrize(
    "device",
    [
        "reference",
        pytest.param("wasm", marks=pytest.mark.wasm),
        pytest.param("webgpu", marks=pytest.mark.webgpu),
        pytest.param("chromium:wasm", marks=pytest.mark.chromium),
    ],
)
def test_a_compiled_step_measures_the_same(bundle: Path, device: str) -> None:
    with hearth.open_runner(bundle, device) as runner:
        found = runner.evaluate_batch((SCORES,), (LABELS,)).metrics
        parts = [
            runner.evaluate_batch((SCORES[i : i + 16],), (LABELS[i : i + 16],)).metrics
            for i in range(0, len(SCORES), 16)
        ]
    wanted = expected(SCORES, LABELS)
    assert [type(found[name]) for name in CHOSEN] == [float, float, np.ndarray]
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6)
    np.testing.assert_array_equal(sum(part["matrix"] for part in parts), wanted["matrix"])


def test_the_manifest_says_what_is_averaged_and_what_is_summed(bundle: Path) -> None:
    outputs = read_bundle(bundle).manifest.program("evaluate").outputs
    shapes = {o.name: [d.static for d in o.shape] for o in outputs if o.role == "metric"}
    assert shapes == {"accuracy": [], "top_2": [], "matrix": [CLASSES, CLASSES]}


def test_halves_do_not_count(tmp_path: Path) -> None:
    """bfloat16 has no 257: autocast must not reach the counting."""
    inputs, labels = np.eye(CLASSES, dtype=np.float32)[[1] * 300], np.ones(300, np.int64)
    step = step_of({"matrix": CHOSEN["matrix"]}, precision="bfloat16")
    with hearth.open_runner(compiled(step, tmp_path), "reference") as runner:
        found = runner.evaluate_batch((inputs,), (labels,)).metrics["matrix"]
    assert np.asarray(found)[1].tolist() == [0, 300, 0, 0, 0]


@pytest.mark.parametrize(
    ("metric", "kind", "text"),
    [
        (lambda x, y: x.argmax(1) == y, CaptureError, "metric m depends on the batch size"),
        (lambda x, y: 0.5, CaptureError, "metric m is a float"),
        (metrics.confusion_matrix(4), InvalidInputError, "confusion_matrix(4) of outputs with 5"),
        (metrics.top_k(6), InvalidInputError, "top_k(6) of 5 classes"),
        (metrics.mean_squared_error, InvalidInputError, "[B, 5] and targets [B] differ in shape"),
        (lambda x, y: metrics.accuracy(x, y[:, None]), InvalidInputError, "labels [B, 1]"),
    ],
)
def test_what_is_no_metric_of_the_step_is_refused(metric: Any, kind: Any, text: str) -> None:
    given = torch.from_numpy(SCORES[:4]), torch.from_numpy(LABELS[:4])
    with pytest.raises(kind) as caught:
        capture_evaluate(step_of({"m": metric}), *given)
    assert text in str(caught.value)


@pytest.mark.parametrize("make", [metrics.top_k, metrics.confusion_matrix])
@pytest.mark.parametrize("value", [0, 2.0, True])
def test_a_wrong_number_of_classes_is_named(make: Any, value: Any) -> None:
    with pytest.raises(InvalidInputError, match=f"is {value!r}"):
        make(value)
