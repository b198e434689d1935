"""Compiled functions: names of outputs, axes of the batch, weights as state, runs that count."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

import hearth
from hearth.capture.random import replay_random
from hearth.errors import CaptureError, InvalidInputError
from hearth.steps.function import output_names


class Result(NamedTuple):
    labels: torch.Tensor
    parts: dict[str, Any]


@pytest.fixture(params=[pytest.param(d, marks=getattr(pytest.mark, d)) for d in ("wasm", "webgpu")])
def device(request: pytest.FixtureRequest) -> str:
    return request.param


def test_results_without_names_are_numbered_leaf_by_leaf() -> None:
    x = torch.zeros(1)
    assert output_names(x) == ["output/0"]
    assert output_names((x, (x, [x]))) == ["output/0", "output/1", "output/2"]


def test_the_keys_of_a_result_name_its_outputs() -> None:
    x = torch.zeros(1)
    assert output_names({"mean": x, "all": (x, x)}) == [
        "output/mean", "output/all/0", "output/all/1",
    ]  # fmt: skip
    assert output_names((x, Result(x, {"far": x}))) == [
        "output/0", "output/1/labels", "output/1/parts/far",
    ]  # fmt: skip


def test_a_chain_of_operations_may_be_longer_than_pythons_stack(
    tmp_path: Path, device: str
) -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        for k in range(400):
            x = (x * 0.9 + k % 3).t()
        for k in range(100):
            x = torch.log1p(torch.atan2(x, x + k))
        return torch.softmax(x, 1)

    x = torch.rand(3, 3)
    hearth.compile_function(function, x, batched=False, backends=[device]).save(
        tmp_path, runtime=False
    )
    with hearth.open_runner(tmp_path, device) as runner:
        found = runner.run("run", [x.numpy()])
    np.testing.assert_allclose(found["output/0"], function(x.double()).numpy(), rtol=1e-5)


def test_a_matrix_of_the_batch_may_be_flattened_and_indexed(tmp_path: Path, device: str) -> None:
    def function(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        similarity, order = x @ x.T, x[:, 0].argsort()
        return similarity.flatten(), similarity[order, order.flip(0)]

    compiled = hearth.compile_function(function, torch.zeros(4, 5), backends=[device])
    compiled.save(tmp_path, runtime=False)
    with hearth.open_runner(tmp_path, device) as runner:
        for batch in (1, 3, 6):
            x = torch.rand(batch, 5, generator=torch.Generator().manual_seed(batch))
            found = runner.run("run", [x.numpy()])
            for k, expected in enumerate(function(x)):
                np.testing.assert_allclose(found[f"output/{k}"], expected.numpy(), rtol=1e-5)


def test_a_function_has_integer_boolean_and_float_outputs_by_name(
    tmp_path: Path, device: str
) -> None:
    def function(x: torch.Tensor) -> Result:
        return Result(x.argmax(1), {"positive": x > 0, "total": x.sum()})

    compiled = hearth.compile_function(function, torch.zeros(2, 5), backends=[device])
    compiled.save(tmp_path, runtime=False)
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    with hearth.open_runner(tmp_path, device) as runner:
        found = runner.run("run", [x.numpy()])
    assert found["output/labels"].dtype == np.int64
    np.testing.assert_array_equal(found["output/labels"], x.argmax(1).numpy())
    assert found["output/parts/positive"].dtype == np.bool_
    np.testing.assert_array_equal(found["output/parts/positive"], (x > 0).numpy())
    np.testing.assert_allclose(found["output/parts/total"], x.sum().numpy(), rtol=1e-5)


@pytest.mark.wasm
def test_a_layer_may_have_the_name_of_a_method_and_share_a_weight(tmp_path: Path) -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    model = nn.Sequential(first)
    model.double = second  # runs after the first
    hearth.compile_function(model, torch.zeros(2, 3), backends=["wasm"]).save(
        tmp_path, runtime=False
    )
    x = torch.randn(4, 3)
    with hearth.open_runner(tmp_path, "wasm") as runner:
        found = runner.run("run", [x.numpy()])["output/0"]
    np.testing.assert_allclose(found, model(x).detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.wasm
def test_an_input_may_have_the_batch_in_two_dimensions(tmp_path: Path) -> None:
    compiled = hearth.compile_function(
        torch.matmul,
        (torch.zeros(2, 2), torch.zeros(2, 3)),
        batched=((0, 1), True),
        backends=["wasm"],
    )
    compiled.save(tmp_path, runtime=False)
    with hearth.open_runner(tmp_path, "wasm") as runner:
        for batch in (1, 5):
            a = torch.arange(batch * batch).reshape(batch, batch).float()
            b = torch.arange(batch * 3).reshape(batch, 3).float()
            found = runner.run("run", [a.numpy(), b.numpy()])["output/0"]
            np.testing.assert_array_equal(found, (a @ b).numpy())


def test_axes_that_cannot_be_the_batch_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="no dimension 0"):
        hearth.compile_function(torch.tanh, torch.zeros(()))
    with pytest.raises(InvalidInputError, match="no dimension 2"):
        hearth.compile_function(torch.tanh, torch.zeros(2, 2), batched=[(0, 2)])
    with pytest.raises(InvalidInputError, match="batch sizes"):
        hearth.compile_function(torch.tanh, torch.zeros(2, 3), batched=[(0, 1)])
    with pytest.raises(InvalidInputError, match="1 batched flags for 2 examples"):
        hearth.compile_function(torch.add, (torch.zeros(2), torch.zeros(2)), batched=[True])


def test_the_tensors_of_a_model_are_state_and_other_weights_can_be_loaded(
    tmp_path: Path, device: str
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).eval()
    other = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).eval()
    other[1].running_mean += 0.5
    other[1].running_var *= 2

    def sensitivity(x: torch.Tensor) -> torch.Tensor:
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(model(leaf).tanh().sum(), leaf)[0]

    before = {k: v.clone() for k, v in model.state_dict().items()}
    compiled = hearth.compile_function(
        sensitivity, torch.zeros(2, 4), model=model, backends=[device]
    )
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [w.name for w in compiled.manifest.weights] == list(model.state_dict())
    compiled.save(tmp_path, runtime=False)
    x = torch.randn(3, 4)
    with hearth.open_runner(tmp_path, device) as runner:
        for module in (model, other):
            runner.load_weights({k: v.numpy() for k, v in module.state_dict().items()})
            model.load_state_dict(module.state_dict())
            found = runner.run("run", [x.numpy()])["output/0"]
            np.testing.assert_allclose(found, sensitivity(x).numpy(), rtol=1e-4, atol=1e-6)


def test_a_function_that_hides_its_model_is_told_to_name_it() -> None:
    model = nn.Linear(4, 2)
    with pytest.raises(CaptureError, match="model=model"):
        hearth.compile_function(lambda x: model(x).relu(), torch.zeros(2, 4), backends=["wasm"])


@pytest.mark.wasm
def test_a_module_can_be_the_function(tmp_path: Path) -> None:
    model = nn.Linear(4, 2)
    hearth.compile_function(model, torch.zeros(2, 4), backends=["wasm"]).save(
        tmp_path, runtime=False
    )
    x = torch.randn(3, 4)
    with hearth.open_runner(tmp_path, "wasm") as runner:
        assert set(runner.export_weights()) == {"weight", "bias"}
        found = runner.run("run", [x.numpy()])["output/0"]
    np.testing.assert_allclose(found, model(x).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_one_bundle_holds_several_functions_and_counts_the_runs_that_draw(
    tmp_path: Path, device: str
) -> None:
    def noisy(x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand_like(x)

    compiled = hearth.compile_functions(
        {
            "noisy": hearth.Function(noisy, torch.zeros(2, 3)),
            "sum": hearth.Function(torch.sum, torch.zeros(2, 3)),
        },
        count_runs=True,
        backends=[device],
    )
    compiled.save(tmp_path, runtime=False)
    x = np.ones((4, 3), np.float32)
    with hearth.open_runner(tmp_path, device, seed=5) as runner:
        for step in (0, 1):
            with replay_random(5, step):
                want = noisy(torch.from_numpy(x))
            np.testing.assert_allclose(runner.run("noisy", [x])["output/0"], want, rtol=1e-6)
            assert runner.run("sum", [x])["output/0"] == 12
            assert runner.step == step + 1
