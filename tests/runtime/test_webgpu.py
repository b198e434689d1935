"""The WebGPU device on a software adapter: memory, programs, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hearth
from hearth.bundle.manifest import Step
from hearth.bundle.memory import Page
from hearth.bundle.read import Bundle, read_bundle
from hearth.bundle.wgsl import GENERAL
from hearth.codegen.wgsl import VARIANTS
from hearth.errors import BackendError, BundleFormatError, OutOfMemoryError
from hearth.runtime.bundle_runner import BundleRunner
from hearth.runtime.plan import make_plan
from hearth.runtime.webgpu import ADAPTER_VARIABLE, WebgpuDevice
from tests.browser import least_squares as fixture

pytestmark = pytest.mark.webgpu


@pytest.fixture(autouse=True)
def software_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ADAPTER_VARIABLE, "llvmpipe")


@pytest.fixture
def bundle() -> Bundle:
    return read_bundle(fixture.FOLDER)


@pytest.fixture
def device(bundle: Bundle) -> Iterator[WebgpuDevice]:
    opened = WebgpuDevice(bundle)
    opened.prepare(make_plan(bundle.manifest, 4))
    yield opened
    opened.close()


def batch(size: int) -> tuple[tuple[Any], tuple[Any]]:
    rng = np.random.default_rng(size)
    x = rng.standard_normal((size, fixture.FEATURES)).astype(np.float32)
    y = rng.integers(0, fixture.CLASSES, size)
    y[0] = -100
    return (x,), (y,)


def gradients_of_weights(runner: BundleRunner, inputs: Any, targets: Any) -> tuple[Any, ...]:
    weights = runner.export_weights()
    weight, bias = (weights[f"linear.{n}"].astype(np.float64) for n in ("weight", "bias"))
    return fixture.gradients(weight, bias, inputs[0].astype(np.float64), targets[0])


def test_gradients_for_growing_and_shrinking_batches(bundle: Bundle) -> None:
    with BundleRunner(bundle, WebgpuDevice(bundle)) as runner:
        before = runner.export_state()
        for size in (1, 5, 64, 2, 3000):
            inputs, targets = batch(size)
            loss, weight, bias = gradients_of_weights(runner, inputs, targets)
            result = runner.gradients(inputs, targets)
            assert result.loss == pytest.approx(loss, rel=1e-5)
            np.testing.assert_allclose(result.gradients["linear.weight"], weight, atol=1e-5)
            np.testing.assert_allclose(result.gradients["linear.bias"], bias, atol=1e-5)
        after = runner.export_state()
        assert all(np.array_equal(before[name], after[name]) for name in before)


def test_training_steps_are_momentum_sgd(bundle: Bundle) -> None:
    with BundleRunner(bundle, WebgpuDevice(bundle)) as runner:
        momentum: Any = 0.0
        for number, rate in enumerate((0.1, 0.1, 0.02)):
            runner.learning_rate = rate
            inputs, targets = batch(number + 3)
            _, weight, _ = gradients_of_weights(runner, inputs, targets)
            before = runner.export_weights()["linear.weight"]
            runner.train_batch(inputs, targets)
            momentum = fixture.MOMENTUM * momentum + weight
            after = runner.export_weights()["linear.weight"]
            np.testing.assert_allclose(after, before - rate * momentum, atol=1e-5)


def test_memory_starts_as_zeros_and_a_new_plan_keeps_the_state(
    device: WebgpuDevice, bundle: Bundle
) -> None:
    size = bundle.manifest.state_bytes
    assert device.read_state(0, size) == bytes(size)
    device.write_state(0, b"\1\2\3\4" * 2)
    device.write_state(size - 4, b"last")
    device.prepare(make_plan(bundle.manifest, 500))
    assert device.read_state(0, 8) == b"\1\2\3\4" * 2
    assert device.read_state(size - 4, 4) == b"last"


def test_a_buffer_holds_what_was_written(device: WebgpuDevice, bundle: Bundle) -> None:
    buffer = bundle.manifest.programs["train"].inputs[0].buffer
    values = np.arange(16, dtype=np.float32).reshape(4, 4)[:, ::-1]
    device.write(buffer, values)
    read = np.frombuffer(device.read(buffer, 64), np.float32)
    np.testing.assert_array_equal(read, values.ravel())
    assert device.read(buffer, 0) == b""


def test_a_plan_that_does_not_fit_is_refused_with_its_size(
    device: WebgpuDevice, bundle: Bundle
) -> None:
    plan = make_plan(bundle.manifest, 4)
    huge = replace(plan, pages=(Page(0, 1 << 62),))
    with pytest.raises(OutOfMemoryError, match=rf"{1 << 62}(.|\n)*smaller batch"):
        device.prepare(huge)
    assert device.read_state(0, 4) == bytes(4)


def test_a_missing_adapter_says_what_to_install(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ADAPTER_VARIABLE, "no such card")
    with pytest.raises(BackendError, match="mesa-vulkan-drivers"):
        WebgpuDevice(bundle)


def test_a_bundle_without_webgpu_is_refused(bundle: Bundle) -> None:
    without = replace(bundle, manifest=replace(bundle.manifest, wgsl=None))
    with pytest.raises(BackendError, match="without WebGPU"):
        WebgpuDevice(without)


def run_with(device: WebgpuDevice, bundle: Bundle, name: str, source: str | None) -> None:
    """Runs a step with another module for one kernel."""
    launch = device._launches[name]
    phases = tuple(replace(phase, source=source) for phase in launch.phases)
    device._launches = {**device._launches, name: replace(launch, phases=phases)}
    for entry in bundle.manifest.programs["train"].inputs:
        device.write(entry.buffer, np.zeros(4, np.float32))
    device.run("train", 1)


def first_kernel(bundle: Bundle) -> str:
    first = bundle.manifest.programs["train"].steps[0].kernel
    return bundle.manifest.kernels[first].name


def test_a_module_that_does_not_compile_is_named(device: WebgpuDevice, bundle: Bundle) -> None:
    name = first_kernel(bundle)
    with pytest.raises(BackendError, match=f"refuses kernel '{name}'"):
        run_with(device, bundle, name, "fn main() { nonsense }")


def test_a_module_that_is_missing_is_named(device: WebgpuDevice, bundle: Bundle) -> None:
    with pytest.raises(BundleFormatError, match="no module for kernel"):
        run_with(device, bundle, first_kernel(bundle), None)


def test_ranges_that_a_browser_would_refuse_are_refused(bundle: Bundle) -> None:
    program = bundle.manifest.programs["train"]
    first = program.steps[0]
    twice = Step(first.kernel, (first.buffers[0],) * len(first.buffers))
    steps = (twice, *program.steps[1:])
    programs = {**bundle.manifest.programs, "train": replace(program, steps=steps)}
    device = WebgpuDevice(replace(bundle, manifest=replace(bundle.manifest, programs=programs)))
    plan = make_plan(bundle.manifest, 4)
    device.prepare(plan)
    with pytest.raises(BundleFormatError, match="overlap"):
        device.run("train", 1)
    shifted = replace(plan, offsets=tuple(o + 4 for o in plan.offsets))
    device.prepare(shifted)
    with pytest.raises(BundleFormatError, match=r"multiple of 256|overlap"):
        device.run("gradients", 1)
    device.close()


def test_the_device_names_adapter_and_library(device: WebgpuDevice) -> None:
    assert device.name.startswith("wgpu ")
    assert "llvmpipe" in device.name


def test_a_compiled_step_equals_the_reference(tmp_path: Any) -> None:
    """Convolution, BatchNorm, Dropout, pooling and Adam, over three steps of uneven batches."""
    import torch
    from torch import nn

    from hearth.driver.compile import compile_step
    from hearth.driver.runners import RUNNERS
    from hearth.steps.train_step import TrainStep

    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, stride=2, groups=2), nn.GELU(), nn.Dropout(0.3), nn.Flatten(),
        nn.Linear(32, 5),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    step = TrainStep(model, loss=nn.CrossEntropyLoss(), optimizer=optimizer)
    x, y = torch.zeros(2, 2, 11, 11), torch.zeros(2, dtype=torch.long)
    compile_step(step, x, y, ("webgpu",)).save(tmp_path)
    runners = [RUNNERS[name](tmp_path, seed=7) for name in ("reference", "webgpu")]
    rng = np.random.default_rng(0)
    for size in (6, 1, 33):
        given = ((rng.standard_normal((size, 2, 11, 11)).astype(np.float32),),
                 (rng.integers(0, 5, size),))  # fmt: skip
        want, got = (r.gradients(*given) for r in runners)
        assert got.loss == pytest.approx(want.loss, rel=1e-5)
        for name, gradient in want.gradients.items():
            scale = float(np.abs(gradient).max())
            np.testing.assert_allclose(
                got.gradients[name], gradient, atol=1e-5 * scale + 1e-6, err_msg=name
            )
        if size > 1:  # BatchNorm over few values amplifies roundings: train on real batches only
            for runner in runners:
                runner.train_batch(*given)
    weights = [r.export_weights() for r in runners]
    for name, value in weights[0].items():
        np.testing.assert_allclose(weights[1][name], value, atol=1e-4, err_msg=name)
    for runner in runners:
        runner.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution and a product of sizes that no template divides."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(294, 5))
    step = hearth.TrainStep(model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), 0.1))
    x, y = torch.zeros(3, 2, 7, 7), torch.zeros(3, dtype=torch.long)
    path = tmp_path_factory.mktemp("variants") / "bundle"
    hearth.compile(step, x, y, backends=("webgpu",)).save(path, runtime=False)
    return path


@pytest.mark.parametrize(
    "variant", [v.name for v in VARIANTS if v.is_for_software or v.least_workgroups]
)
def test_a_variant_trains_as_the_general_kernels_do(folder: Path, variant: str) -> None:
    random = np.random.default_rng(0)
    x, y = random.standard_normal((9, 2, 7, 7)).astype(np.float32), random.integers(0, 5, 9)
    found = []
    for name in (GENERAL, variant):
        bundle = read_bundle(folder)
        with BundleRunner(bundle, WebgpuDevice(bundle, name)) as runner:
            found.append([runner.train_batch((x,), (y,)).loss for _ in range(4)])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)


def test_a_variant_that_a_bundle_does_not_have_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(
        BackendError, match=r"no kernels called 'other'(.|\n)*take one of general, "
    ):
        WebgpuDevice(read_bundle(folder), "other")
