"""The runner of all Python devices on the hand-written bundle, executed by wasmtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import wasmtime

from hearth.bundle.read import Bundle, read_bundle
from hearth.bundle.weights import encode_weights, weights_of
from hearth.errors import (
    BackendError,
    BundleFormatError,
    InvalidInputError,
    NumericalInstabilityError,
)
from hearth.runtime.bundle_runner import BundleRunner
from hearth.runtime.plan import make_plan
from hearth.runtime.wasm import WasmDevice, _Instance
from tests.browser import least_squares as fixture

pytestmark = pytest.mark.wasm
Open = Callable[..., BundleRunner]


@pytest.fixture
def bundle() -> Bundle:
    return read_bundle(fixture.FOLDER)


@pytest.fixture(params=[(1, True), (1, False), (2, False), (3, False)], ids=str)
def runner(request: pytest.FixtureRequest, bundle: Bundle) -> Iterator[BundleRunner]:
    threads, relaxed = request.param
    device = WasmDevice(bundle, threads=threads, relaxed=relaxed)
    with BundleRunner(bundle, device, seed=3) as opened:
        yield opened


def batch(size: int = 5) -> tuple[tuple[Any], tuple[Any]]:
    rng = np.random.default_rng(size)
    x = rng.standard_normal((size, fixture.FEATURES)).astype(np.float32)
    y = rng.integers(0, fixture.CLASSES, size)
    y[0] = -100
    return (x,), (y,)


def expected(runner: BundleRunner, inputs: Any, targets: Any) -> tuple[float, Any, Any]:
    weights = runner.export_weights()
    weight, bias = (weights[f"linear.{n}"].astype(np.float64) for n in ("weight", "bias"))
    return fixture.gradients(weight, bias, inputs[0].astype(np.float64), targets[0])


def test_gradients_are_those_of_the_formula_and_leave_the_state(runner: BundleRunner) -> None:
    before = runner.export_state()
    for size in (5, 1, 64, 2):
        inputs, targets = batch(size)
        loss, weight, bias = expected(runner, inputs, targets)
        result = runner.gradients(inputs, targets)
        assert result.loss == pytest.approx(loss, rel=1e-5)
        np.testing.assert_allclose(result.gradients["linear.weight"], weight, atol=1e-5)
        np.testing.assert_allclose(result.gradients["linear.bias"], bias, atol=1e-5)
    after = runner.export_state()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_training_is_momentum_sgd_with_a_live_learning_rate(runner: BundleRunner) -> None:
    momentum: Any = 0.0
    for number, rate in enumerate((0.1, 0.1, 0.02)):
        runner.learning_rate = rate
        inputs, targets = batch(number + 3)  # a growing batch makes a new plan
        loss, weight, _ = expected(runner, inputs, targets)
        before = runner.export_weights()["linear.weight"]
        result = runner.train_batch(inputs, targets)
        momentum = fixture.MOMENTUM * momentum + weight
        after = runner.export_weights()["linear.weight"]
        np.testing.assert_allclose(after, before - rate * momentum, atol=1e-5)
        assert result.loss == pytest.approx(loss, rel=1e-5)
        assert runner.step == number + 1
    assert runner.export_weights()["batches_seen"].dtype == np.int64


def test_predict_and_evaluate_agree(runner: BundleRunner) -> None:
    inputs, targets = batch(7)
    evaluated = runner.evaluate_batch(inputs, targets)
    np.testing.assert_array_equal(runner.predict(inputs)[0], evaluated.outputs[0])
    assert set(evaluated.metrics) == {"mean_square"}
    assert set(runner.run("evaluate", inputs, targets)) == {"loss", "logits", "mean_square"}


def test_an_untouched_export_is_the_file_byte_for_byte(
    runner: BundleRunner, bundle: Bundle
) -> None:
    weights = weights_of(bundle.manifest.state)
    assert encode_weights(weights, runner.export_weights()) == bundle.file("weights.safetensors")


def test_state_moves_to_another_runner_and_training_continues(
    runner: BundleRunner, bundle: Bundle
) -> None:
    runner.train_many([batch(4), batch(6)])
    with BundleRunner(bundle, WasmDevice(bundle, relaxed=False)) as other:
        other.load_state(runner.export_state())
        assert (other.step, other.seed) == (2, 3)
        losses = [r.train_batch(*batch(5)).loss for r in (runner, other)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_seeds_have_64_bits(runner: BundleRunner) -> None:
    assert runner.seed == 3
    runner.seed = 0x1234_5678_9ABC_DEF0
    assert runner.seed == 0x1234_5678_9ABC_DEF0
    assert runner.export_state()["seed"].tolist() == [0x9ABC_DEF0, 0x1234_5678]


def test_bad_arguments_are_refused_before_the_device(runner: BundleRunner) -> None:
    (x,), (y,) = batch()
    before = runner.export_state()
    for inputs, targets in (
        ((x[:, :3],), (y,)), ((x,), (y[:4],)), ((x,), (y + 3,)), ((x * np.nan,), (y,)), ((), (y,)),
        ((x.astype(np.float64),), (y,)),
    ):  # fmt: skip
        with pytest.raises(InvalidInputError):
            runner.train_batch(inputs, targets)
    for rate in (float("nan"), (0.1, 0.2)):
        with pytest.raises(InvalidInputError, match="learning_rate"):
            runner.learning_rate = rate
    with pytest.raises(InvalidInputError, match="no program"):
        runner.run("dream", (x,))
    with pytest.raises(InvalidInputError, match="nobody"):
        runner.load_state({"nobody": x})
    with pytest.raises(InvalidInputError, match=r"linear\.bias"):
        runner.load_state({"linear.bias": x})
    with pytest.raises(BundleFormatError):
        runner.load_weights({"linear.bias": np.zeros(3, np.float32)})
    after = runner.export_state()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_loss_that_is_not_finite_is_an_error_after_its_step(runner: BundleRunner) -> None:
    before, good, (x, y) = runner.export_state(), batch(), batch()
    bad = (np.full_like(x[0], 3e38),), y
    for train in (lambda: runner.train_batch(*bad), lambda: runner.train_many([good, bad])):
        runner.load_state(before)
        with pytest.raises(NumericalInstabilityError, match=r"the loss of step [12] is (inf|nan)"):
            train()
        assert runner.step >= 1
        assert not np.isfinite(runner.export_weights()["linear.weight"]).all()
        assert not np.isfinite(runner.gradients(*good).loss)
    runner.load_state(before)
    assert np.isfinite(runner.train_batch(*good).loss)


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("broken", [(0,), (1,), (0, 1)], ids=str)
def test_a_trap_in_one_thread_ends_the_others_and_the_device_works_on(
    bundle: Bundle, threads: int, broken: tuple[int, ...]
) -> None:
    def trap(*_: object) -> None:
        raise wasmtime.Trap("broken on purpose")

    device = WasmDevice(bundle, threads=threads, relaxed=False)
    with BundleRunner(bundle, device, batch_size=5) as runner:
        healthy = list(device._instances)
        for thread in broken:
            device._instances[thread] = _Instance(healthy[thread].store, {"gradients": trap})
        for _ in range(3):
            with pytest.raises(BackendError, match="broken on purpose"):
                runner.gradients(*batch(5))
        device._instances[:] = healthy
        loss, _, _ = expected(runner, *batch(5))
        assert runner.gradients(*batch(5)).loss == pytest.approx(loss, rel=1e-5)


def test_a_missing_variant_is_named(bundle: Bundle) -> None:
    from dataclasses import replace

    assert bundle.manifest.wasm is not None
    single = [v for v in bundle.manifest.wasm.variants if "threads" not in v.features]
    wasm = replace(bundle.manifest.wasm, variants=tuple(single))
    with pytest.raises(BackendError, match="threads"):
        WasmDevice(replace(bundle, manifest=replace(bundle.manifest, wasm=wasm)), threads=2)
    with pytest.raises(BackendError, match="no WebAssembly"):
        WasmDevice(replace(bundle, manifest=replace(bundle.manifest, wasm=None)))


def test_a_plan_keeps_the_state_in_place_and_grows_with_the_batch(bundle: Bundle) -> None:
    small, large = (make_plan(bundle.manifest, b) for b in (1, 1000))
    for i, buffer in enumerate(bundle.manifest.buffers):
        if buffer.offset is not None:
            assert small.offsets[i] == large.offsets[i] == buffer.offset
        else:
            assert small.offsets[i] >= small.state_bytes
    assert large.arena_bytes > small.arena_bytes
    assert all(o + s <= large.arena_bytes for o, s in zip(large.offsets, large.sizes, strict=True))
