"""The training loop and the inspection report, on a runner that only counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from hearth.bundle.manifest import Program
from hearth.data import Split
from hearth.errors import InvalidInputError
from hearth.inspection import human_bytes, table
from hearth.runtime.runner import Arrays, Batch, StepResult
from hearth.training import Progress, accuracy, evaluate, train
from tests.bundle.samples import MANIFEST, TRAIN

SPLIT = Split(np.arange(10, dtype="f4")[:, None], np.arange(10) % 3)


class Counting:
    """Returns the mean input as loss, and one-hot outputs of `prediction`."""

    learning_rate = (0.1,)

    def __init__(self, prediction: int = 0) -> None:
        self.sizes: list[int] = []
        self.seen: list[float] = []
        self.prediction = prediction
        self.waiting = 0
        self.applied: list[int] = []

    def train_many(self, batches: Iterable[Batch]) -> np.ndarray:
        losses = []
        for (x,), _ in batches:
            self.sizes.append(len(x))
            self.seen += x[:, 0].tolist()
            losses.append(x.mean())
        return np.array(losses, "f4")

    def accumulate_batch(self, inputs: Arrays, targets: Arrays) -> StepResult:
        (loss,) = self.train_many([(inputs, targets)])
        self.waiting += 1
        return StepResult(float(loss), ())

    def apply_gradients(self) -> dict[str, float]:
        self.applied.append(self.waiting)
        self.waiting = 0
        return {}

    def evaluate_batch(self, inputs: Arrays, targets: Arrays) -> StepResult:
        outputs = np.eye(3, dtype="f4")[np.full(len(inputs[0]), self.prediction)]
        return StepResult(float(inputs[0].mean()), (outputs,))


def program(**changes: object) -> Program:
    target = replace(TRAIN.inputs[1], **changes)
    return replace(TRAIN, inputs=(TRAIN.inputs[0], target))


def test_a_step_of_several_batches_has_their_mean_loss_and_one_update() -> None:
    runner = Counting()
    reports: list[Progress] = []
    losses = train(
        runner, SPLIT, epochs=2, batch_size=2, accumulate=3, seed=1, report=reports.append
    )
    assert runner.sizes == [2] * 10
    assert runner.applied == [3, 2] * 2  # the last step of an epoch has fewer
    first = [np.mean(runner.seen[i : i + 2]) for i in (0, 2, 4)]
    assert losses[0] == pytest.approx(np.mean(first))
    assert (len(losses), reports[-1].step, reports[-1].steps) == (4, 4, 4)


def test_every_epoch_sees_every_sample_once_in_another_order() -> None:
    runner = Counting()
    reports: list[Progress] = []
    losses = train(runner, SPLIT, epochs=3, batch_size=4, seed=1, report=reports.append)
    assert runner.sizes == [4, 4, 2] * 3
    assert len(losses) == 9
    epochs = [runner.seen[i : i + 10] for i in (0, 10, 20)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert (reports[-1].epoch, reports[-1].step, reports[-1].steps) == (2, 9, 9)


def test_the_same_seed_gives_the_same_order() -> None:
    first, second, other = Counting(), Counting(), Counting()
    for runner, seed in ((first, 5), (second, 5), (other, 6)):
        train(runner, SPLIT, epochs=2, batch_size=3, seed=seed)
    assert first.seen == second.seen
    assert first.seen != other.seen


def test_evaluation_averages_over_samples_of_all_batches() -> None:
    split = Split(np.arange(600, dtype="f4")[:, None], np.arange(600) % 3)
    result = evaluate(Counting(prediction=1), split, TRAIN)
    assert result.loss == pytest.approx(299.5)
    assert result.accuracy == pytest.approx(1 / 3)
    assert result.outputs.shape == (600, 3)
    assert str(result) == "loss 299.5000, accuracy 33.33 %"


def test_ignored_targets_do_not_count() -> None:
    outputs = np.eye(3)[[0, 1, 2, 0]]
    targets = np.array([0, 1, -100, 2])
    assert accuracy(outputs, targets, TRAIN) == pytest.approx(2 / 3)
    assert accuracy(outputs, np.full(4, -100), TRAIN) == 0.0


def test_there_is_no_accuracy_without_classes() -> None:
    outputs, targets = np.zeros((4, 3)), np.zeros(4, "i8")
    assert accuracy(outputs, targets, program(range=None)) is None
    assert accuracy(outputs[:, 0], targets, TRAIN) is None


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 * 2**20, "3.0 MiB"), (2**32, "4.0 GiB")],
)
def test_bytes_are_written_for_people(count: int, text: str) -> None:
    assert human_bytes(count) == text


def test_tables_align_words_left_and_numbers_right() -> None:
    rows = [("a", "1", "x"), ("bbb", "20", "")]
    assert list(table(rows, right=frozenset({1}))) == ["  a     1  x", "  bbb  20"]


def test_a_bundle_of_a_function_cannot_be_trained() -> None:
    from hearth.training import _trained_program

    with pytest.raises(InvalidInputError, match="cannot be trained: it has run"):
        _trained_program(replace(MANIFEST, programs={"run": TRAIN}))
