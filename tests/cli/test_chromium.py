"""The driver of a real browser, on a bundle written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hearth.bundle.checkpoint import decode_checkpoint
from hearth.bundle.read import read_bundle
from hearth.bundle.safetensors import decode_safetensors
from hearth.bundle.write import write_bundle
from hearth.errors import (
    BackendError,
    BundleFormatError,
    InvalidInputError,
    NumericalInstabilityError,
)
from hearth.runtime.browser import find_browser, launch_flags
from hearth.runtime.chromium import ChromiumTrainer
from tests.browser import least_squares
from tests.bundle.line import FIRST_WEIGHT, write_line_bundle

pytestmark = pytest.mark.chromium

X = np.arange(1, 8, dtype=np.float32)[:, None] / 4
Y = 3 * X


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_line_bundle(tmp_path_factory.mktemp("line"))


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[ChromiumTrainer]:
    with ChromiumTrainer(folder, "wasm") as trainer:
        yield trainer


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromiumTrainer]:
    """The linear classifier of spec/fixtures."""
    bundle = read_bundle(least_squares.FOLDER)
    files = {name: bundle.file(name) for name in bundle.manifest.files}
    folder = tmp_path_factory.mktemp("labelled")
    write_bundle(folder, bundle.manifest, files)
    with ChromiumTrainer(folder, "wasm") as trainer:
        yield trainer


@pytest.fixture
def trainer(browser: ChromiumTrainer) -> ChromiumTrainer:
    browser.load_state({"w": FIRST_WEIGHT, "hearth/step": np.zeros(1, "i4")})
    browser.learning_rate = 0.1
    return browser


def gradient_at(w: float) -> float:
    return float((2 * (w * X - Y).astype("f8") * X).mean())


def test_the_device_says_which_browser_and_backend(trainer: ChromiumTrainer) -> None:
    assert trainer.device.startswith("Chromium ")
    assert "wasm" in trainer.device


def test_steps_are_timed_in_the_page_and_train(trainer: ChromiumTrainer) -> None:
    times = trainer.step_times_ms((X,), (Y,), 0.0)
    assert len(times) == 1
    assert trainer.step == 1
    assert len(trainer.step_times_ms((X,), (Y,), 0.05)) == trainer.step - 1


def test_a_training_step_is_what_the_formulas_say(trainer: ChromiumTrainer) -> None:
    result = trainer.train_batch((X,), (Y,))
    assert result.loss == pytest.approx(float(((0.5 * X - Y) ** 2).mean()), rel=1e-6)
    assert result.outputs[0] == pytest.approx(0.5 * X)
    weight = trainer.export_weights()["w"]
    assert weight == pytest.approx(0.5 - 0.1 * gradient_at(0.5), rel=1e-6)
    assert trainer.step == 1


def test_gradients_evaluate_and_predict_leave_the_state(trainer: ChromiumTrainer) -> None:
    before = trainer.export_state()
    result = trainer.gradients((X,), (Y,))
    assert result.gradients["w"] == pytest.approx(gradient_at(0.5), rel=1e-6)
    assert trainer.evaluate_batch((X,), (Y,)).loss == pytest.approx(result.loss)
    assert trainer.predict((X,))[0] == pytest.approx(0.5 * X)
    after = trainer.export_state()
    assert all((before[n] == after[n]).all() for n in before)


def test_many_steps_equal_single_steps(trainer: ChromiumTrainer) -> None:
    batches = [((X[i : i + 3],), (Y[i : i + 3],)) for i in (0, 2, 4)] * 30
    single = [trainer.train_batch(x, y).loss for x, y in batches]
    end = trainer.export_weights()["w"]
    trainer.load_state({"w": FIRST_WEIGHT})
    many = trainer.train_many(batches)
    assert many.tolist() == single
    assert trainer.export_weights()["w"] == end
    assert end == pytest.approx(3, abs=1e-3)


def test_the_learning_rate_is_live(trainer: ChromiumTrainer) -> None:
    trainer.learning_rate = 0.0
    assert trainer.learning_rate == (0.0,)
    trainer.train_batch((X,), (Y,))
    assert trainer.export_weights()["w"] == FIRST_WEIGHT
    trainer.learning_rate = [0.25]
    assert trainer.learning_rate == (0.25,)


def test_untouched_weights_come_back_byte_for_byte(folder: Path, trainer: ChromiumTrainer) -> None:
    assert trainer.export_weights_file() == (folder / "weights.safetensors").read_bytes()


def test_weights_go_in_and_out_in_both_forms(trainer: ChromiumTrainer) -> None:
    trainer.load_weights({"w": np.array([1.5], np.float32)})
    assert trainer.export_weights()["w"] == 1.5
    text = trainer.export_weights_file("json")
    trainer.load_weights({"w": FIRST_WEIGHT})
    trainer.load_weights_file(text)
    assert trainer.export_weights()["w"] == 1.5


def test_a_checkpoint_of_the_browser_is_read_here_and_continues_there(
    trainer: ChromiumTrainer,
) -> None:
    trainer.train_many([((X,), (Y,))] * 3)
    data = trainer.export_checkpoint()
    checkpoint = decode_checkpoint(data)
    assert checkpoint.step == 3
    assert checkpoint.description.groups[0].learning_rate == pytest.approx(0.1)
    weight = trainer.export_weights()["w"]
    trainer.train_batch((X,), (Y,))
    trainer.load_checkpoint(data)
    assert trainer.export_weights()["w"] == weight
    assert trainer.step == 3


def test_a_seed_of_64_bits_reaches_the_browser(trainer: ChromiumTrainer) -> None:
    trainer.seed = 2**63 + 5
    assert trainer.seed == 2**63 + 5
    words = trainer.export_state()["hearth/seed"]
    assert words.tolist() == [5, 2**31]


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X[:0], Y[:0], "at least one sample"),
        (X, Y[:3], "samples"),
        (np.ones((7, 2), "f4"), Y, "the model takes [B, 1]"),
        (X.astype("f8"), Y, "is float64"),
        (X * np.nan, Y, "holds nan"),
    ],
)
def test_a_bad_batch_is_refused_and_the_trainer_still_works(
    trainer: ChromiumTrainer, x: np.ndarray, y: np.ndarray, message: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        trainer.train_batch((x,), (y,))
    assert message in str(caught.value)
    assert np.isfinite(trainer.train_batch((X,), (Y,)).loss)


@pytest.mark.parametrize("dtype", ["i1", "u2", "u8", ">i8"])
def test_labels_of_any_integer_type_mean_the_same(labelled: ChromiumTrainer, dtype: str) -> None:
    x = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    y = np.array([0, 1, 2, 2, 1, 0])
    wanted = labelled.evaluate_batch((x,), (y,)).loss
    assert labelled.evaluate_batch((x,), (y.astype(dtype),)).loss == wanted
    before = labelled.export_state()
    losses = []
    for labels in (y, y.astype(dtype)):
        labelled.load_state(before)
        losses.append(labelled.train_many([((x,), (labels,))] * 2).tolist())
    assert losses[0] == losses[1]


def test_errors_of_the_browser_arrive_as_their_own_class(trainer: ChromiumTrainer) -> None:
    with pytest.raises(BundleFormatError):
        trainer.load_weights_file(b"not a weight file at all")
    with pytest.raises(InvalidInputError, match="learning rate is -1"):
        trainer.learning_rate = -1.0
    with pytest.raises(InvalidInputError, match="no program 'fly'"):
        trainer.run("fly", (X,))
    trainer.learning_rate = 1e30
    with pytest.raises(NumericalInstabilityError, match="loss"):
        trainer.train_many([((X,), (Y,))] * 10)
    with pytest.raises(NumericalInstabilityError, match="the loss of step"):
        trainer.train_batch((X,), (Y,))
    trainer.load_weights({"w": FIRST_WEIGHT})
    assert np.isfinite(trainer.evaluate_batch((X,), (Y,)).loss)


def test_a_backend_that_the_bundle_lacks_is_an_error_not_a_fallback(folder: Path) -> None:
    with pytest.raises(BackendError, match="webgpu"):
        ChromiumTrainer(folder, "webgpu")


def test_a_truncated_bundle_is_refused_by_the_browser(tmp_path: Path) -> None:
    folder = write_line_bundle(tmp_path / "line")
    path = folder / "program.wasm"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(BundleFormatError, match=r"program\.wasm"):
        ChromiumTrainer(folder, "wasm")


def test_a_browser_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMIUM", "/nowhere/chromium")
    with pytest.raises(BackendError, match="/nowhere/chromium"):
        find_browser()
    monkeypatch.delenv("CHROMIUM")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BackendError, match="playwright install chromium"):
        find_browser()


def test_webgpu_needs_its_flags() -> None:
    assert "--use-webgpu-adapter=swiftshader" in launch_flags("webgpu", software_gpu=True)
    assert "--enable-unsafe-webgpu" not in launch_flags("wasm", software_gpu=True)


def test_the_sample_weights_are_a_plain_file(folder: Path) -> None:
    file = decode_safetensors((folder / "weights.safetensors").read_bytes())
    assert file.tensors["w"] == FIRST_WEIGHT
