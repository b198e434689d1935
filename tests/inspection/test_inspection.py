"""What the program `inspect` tells is what PyTorch's hooks see in float64."""

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
from hearth.bundle.wgsl import split_modules
from hearth.driver.compiled import Compiled
from hearth.driver.runners import open_runner
from hearth.errors import InvalidInputError
from hearth.runtime.inspection import first_nonfinite, useless_units, value_names
from tests.inspection.net import (
    EXAMPLE,
    NAMES,
    TOLERANCE,
    assert_describes,
    batch,
    by_hooks,
    net_step,
)

RUNNERS = [
    "reference",
    pytest.param("wasm", marks=pytest.mark.wasm),
    pytest.param("webgpu", marks=pytest.mark.webgpu),
]


@pytest.fixture(scope="module")
def step() -> hearth.TrainStep:
    return net_step()


@pytest.fixture(scope="module")
def compiled(step: hearth.TrainStep) -> Compiled:
    return hearth.compile(step, *EXAMPLE, inspect=True)


@pytest.fixture(scope="module")
def folder(compiled: Compiled, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inspection") / "bundle"
    compiled.save(path, runtime=False)
    return path


@pytest.fixture(params=RUNNERS)
def runner(request: pytest.FixtureRequest, folder: Path) -> Iterator[Any]:
    with hearth.open_runner(folder, request.param) as opened:
        yield opened


def test_layers_are_what_hooks_see(step: hearth.TrainStep, runner: Any) -> None:
    x, y = batch()
    seen = by_hooks(step.model, x, y)
    found = {layer.name: layer for layer in runner.inspect((x.numpy(),), (y.numpy(),)).layers}
    assert list(found) == [
        "features.0", "features.1", "pair.both", "pair[0]", "pair[1]", "relu()", "hidden#1",
        "act#1", "hidden#2", "act#2", "last",
    ]  # fmt: skip
    for name, (theirs, call) in NAMES.items():
        tensor = seen[theirs][call]
        assert_describes(found[name].activation, tensor)
        assert tensor.grad is not None
        assert_describes(found[name].gradient, tensor.grad)


def test_parameters_gradients_and_updates_are_those_of_the_step(
    step: hearth.TrainStep, runner: Any
) -> None:
    x, y = batch()
    runner.train_batch((x.numpy(),), (y.numpy(),))  # so that there is momentum
    assert_tells_of_the_step(step, runner, x, y)


def assert_tells_of_the_step(
    step: hearth.TrainStep, runner: Any, x: torch.Tensor, y: torch.Tensor
) -> None:
    """An inspection and then the step that it was of."""
    state = {name: torch.tensor(a).double() for name, a in runner.export_weights().items()}
    gradients = runner.gradients((x.numpy(),), (y.numpy(),)).gradients
    found = runner.inspect((x.numpy(),), (y.numpy(),))
    assert [view.name for view in found.parameters] == list(step.parameters)
    runner.train_batch((x.numpy(),), (y.numpy(),))
    after = runner.export_weights()
    for view in found.parameters:
        assert_describes(view.value, state[view.name])
        assert_describes(view.gradient, torch.tensor(gradients[view.name]))
        update = torch.tensor(after[view.name]).double() - state[view.name]
        assert view.update.norm == pytest.approx(update.norm().item(), rel=1e-3)
        ratio = (update.norm() / state[view.name].norm()).item()
        assert view.ratio == pytest.approx(ratio, rel=1e-3)


def test_values_come_on_request(step: hearth.TrainStep, runner: Any) -> None:
    x, y = batch()
    name = "activation_gradient/act#2"
    assert name in value_names(runner.manifest)
    found = runner.inspect((x.numpy(),), (y.numpy(),), [name]).values
    want = by_hooks(step.model, x, y)["act"][1].grad
    assert list(found) == [name]
    np.testing.assert_allclose(found[name], want, atol=TOLERANCE * want.abs().max().item())
    with pytest.raises(InvalidInputError, match="there are no values 'activation/act'"):
        runner.inspect((x.numpy(),), (y.numpy(),), ["activation/act"])


def test_useless_units_are_found(runner: Any) -> None:
    x, y = batch()
    first = runner.inspect((x.numpy(),), (y.numpy(),))
    layers = {layer.name: layer for layer in first.layers}
    assert layers["features.1"].silent[1] == 1
    found = [(w.layer, w.kind) for w in first.warnings]
    assert ("features.1", "silent") in found
    assert ("act#1", "saturated") in found
    dead = next(w for w in first.warnings if w.layer == "features.1")
    assert 1 in dead.units
    assert str(dead) == f"features.1: {len(dead.units)} of 4 units never fire"
    assert 5 in next(w for w in first.warnings if w.layer == "act#1").units
    x, y = batch(9)
    second = runner.inspect((x.numpy(),), (y.numpy(),))
    both = {w.layer: set(w.units) for w in useless_units(first, second) if w.kind == "silent"}
    assert both["features.1"] == set(np.flatnonzero(
        (layers["features.1"].silent == 1) & (second.layers[1].silent == 1)))  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of the reference device
def test_the_first_tensor_that_is_not_finite_is_named(runner: Any) -> None:
    x, y = batch()
    kept = runner.export_weights()
    assert first_nonfinite(runner.inspect((x.numpy(),), (y.numpy(),))) is None
    planted = {name: array.copy() for name, array in kept.items()}
    planted["hidden.bias"][2] = np.nan
    runner.load_weights(planted)
    found = runner.inspect((x.numpy(),), (y.numpy(),))
    assert str(first_nonfinite(found)) == "the parameter of hidden.bias"
    hidden = next(layer for layer in found.layers if layer.name == "hidden#1")
    assert hidden.activation.nan == len(x)
    assert np.isfinite(hidden.activation.norm)  # of what is finite
    planted = {name: array.copy() for name, array in kept.items()}
    planted["hidden.weight"][:] = 3e38
    runner.load_weights(planted)
    assert str(first_nonfinite(runner.inspect((x.numpy(),), (y.numpy(),)))) == (
        "the activation of hidden#1"
    )


def test_the_other_programs_stay_byte_for_byte(step: hearth.TrainStep, compiled: Compiled) -> None:
    plain = hearth.compile(step, *EXAMPLE)
    for name, program in plain.manifest.programs.items():
        other = compiled.manifest.programs[name]
        assert (program.steps, program.slots) == (other.steps, other.slots)
    texts = [split_modules(c.files["kernels.wgsl"].decode()) for c in (plain, compiled)]
    assert texts[0].items() <= texts[1].items()
    kernels, others = (
        [replace(kernel, origin=None) for kernel in c.manifest.kernels] for c in (plain, compiled)
    )  # the loss has the line that called the compiler
    assert kernels == others[: len(kernels)]
    assert plain.manifest.buffers == compiled.manifest.buffers[: len(plain.manifest.buffers)]


def test_modules_are_chosen_by_name(step: hearth.TrainStep) -> None:
    few = hearth.compile(step, *EXAMPLE, backends=["wasm"], inspect=["hidden"])
    outputs = [o.name for o in few.manifest.program("inspect").outputs]
    assert [o for o in outputs if o.startswith("statistics/activation/")] == [
        "statistics/activation/hidden#1", "statistics/activation/hidden#2",
    ]  # fmt: skip
    with pytest.raises(InvalidInputError, match="(?s)no call of 'hiden'.*features.0"):
        hearth.compile(step, *EXAMPLE, inspect=["hiden"])


def test_a_bundle_without_the_program_says_so(tmp_path: Path, step: hearth.TrainStep) -> None:
    hearth.compile(step, *EXAMPLE, backends=["wasm"]).save(tmp_path, runtime=False)
    with hearth.open_runner(tmp_path, "wasm") as opened:
        x, y = batch()
        with pytest.raises(InvalidInputError, match="inspect=True"):
            opened.inspect((x.numpy(),), (y.numpy(),))


@pytest.mark.wasm
def test_parameters_that_are_updated_each_by_itself_are_told_of_without_being_joined(
    tmp_path: Path,
) -> None:
    torch.manual_seed(2)
    # Of no whole rows of 64.
    layers = nn.Linear(5, 7, bias=False), nn.Tanh(), nn.Linear(7, 3, bias=False)
    model = nn.Sequential(*layers)
    optimizer = torch.optim.Muon(model.parameters(), lr=0.1)
    step = hearth.TrainStep(model, nn.CrossEntropyLoss(), optimizer)
    random = torch.Generator().manual_seed(3)
    x = torch.randn(6, 5, generator=random)
    y = torch.randint(0, 3, (6,), generator=random)
    compiled = hearth.compile(step, x, y, backends=["wasm"], inspect=True)
    shapes = {o.name: compiled.manifest.buffers[o.buffer].shape
              for o in compiled.manifest.program("inspect").outputs}  # fmt: skip
    for name, parameter in model.named_parameters():
        assert str(shapes.pop(f"values/updates/{name}")) == str(tuple(parameter.shape))
    assert not any(name.startswith("values/updates/") for name in shapes)
    compiled.save(tmp_path / "dist", runtime=False)
    runner = open_runner(tmp_path / "dist", "wasm")
    assert_tells_of_the_step(step, runner, x, y)
    before = runner.export_weights()
    updates = runner.run("inspect", (x.numpy(),), (y.numpy(),))
    runner.train_batch((x.numpy(),), (y.numpy(),))
    for name, weight in runner.export_weights().items():
        moved = updates[f"values/updates/{name}"]
        np.testing.assert_allclose(moved, weight - before[name], rtol=1e-5, atol=1e-7)
