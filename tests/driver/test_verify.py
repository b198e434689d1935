"""Verification finds wrong kernels, and says where they are wrong."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hearth
from hearth.bundle.manifest import State
from hearth.bundle.read import read_bundle
from hearth.driver import verify as verify_module
from hearth.driver.cases import perturbed, random_case
from hearth.driver.compiled import Compiled
from hearth.driver.oracle import Oracle
from hearth.driver.report import Deviation, VerifyReport
from hearth.driver.verify import judge, slack_of, verify_on

WEIGHT = ("weight", "fc.weight")


@cache
def compiled() -> Compiled:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    step = hearth.TrainStep(model, nn.CrossEntropyLoss(), optimizer)
    return hearth.compile(
        step, torch.zeros(2, 6), torch.zeros(2, dtype=torch.long), backends=["wasm"]
    )


@pytest.mark.wasm
def test_a_wrong_update_fails_and_names_the_worst_element() -> None:
    epsilon, large = (np.float32(v).tobytes() for v in (1e-8, 1e-2))
    files = {n: d.replace(epsilon, large) if n.endswith(".wasm") else d
             for n, d in compiled().files.items()}  # fmt: skip
    report = hearth.verify(replace(compiled(), files=files), "wasm", cases=2)
    assert not report.ok
    assert {d.kind for d in report.failures} == {"weight"}
    assert "FAILED case 0: weight 0.weight[" in str(report)


@pytest.mark.wasm
def test_weights_that_become_nan_are_reported_and_do_not_end_the_verification() -> None:
    epsilon, nan = (np.float32(v).tobytes() for v in (1e-8, np.nan))
    files = {n: d.replace(epsilon, nan) if n.endswith(".wasm") else d
             for n, d in compiled().files.items()}  # fmt: skip
    report = hearth.verify(replace(compiled(), files=files), "wasm", cases=2)
    assert {d.kind for d in report.failures} == {"weight"}
    assert "= nan, expected" in str(report)


def test_going_on_from_a_state_is_the_rest_of_the_run(tmp_path: Path) -> None:
    compiled().save(tmp_path, runtime=False)
    step = compiled().step
    assert step is not None
    case = random_case(step, read_bundle(tmp_path), number=1, seed=0)
    oracle = Oracle(step, torch.float64)
    oracle.load_state(case.start)
    for batch in case.batches[:-1]:
        oracle.train(*batch, case.number)
    last = len(case.batches) - 1
    rest = case.going_on({**oracle.weights, **oracle.optimizer_state}, last).exact("trained")
    for (kind, name), value in case.exact("trained").items():
        wanted = value[-1:] if kind == "losses" else value
        np.testing.assert_array_equal(rest[kind, name], wanted, err_msg=f"{kind} {name}")


@pytest.mark.wasm
def test_a_run_that_left_the_bound_is_judged_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here by a bound that no run of ten steps can keep."""
    judged = verify_module.judge

    def strict(*args: Any, **kwargs: Any) -> Deviation:
        deviation = judged(*args, **kwargs)
        is_after_ten = deviation.kind == "weight" and judged_cases[-1] == 10
        return replace(deviation, allowed=0.0) if is_after_ten else deviation

    judged_cases: list[int] = []
    judge_all = verify_module._judge_all

    def counted(case: Any, *args: Any) -> Any:
        judged_cases.append(len(case.batches))
        return judge_all(case, *args)

    monkeypatch.setattr(verify_module, "judge", strict)
    monkeypatch.setattr(verify_module, "_judge_all", counted)
    report = hearth.verify(compiled(), "wasm", cases=1)
    assert report.ok
    assert report.stepped == 1
    once = {"loss": 1, "output": 1, "gradient": 4}
    assert report.compared == {**once, "losses": 1, "weight": 4, "optimizer": 12}
    assert "1 cases were judged step by step" in str(report)


@pytest.mark.wasm
def test_runners_are_judged_by_the_same_cases() -> None:
    first, second = verify_on(compiled(), ["reference", "wasm"], cases=2)
    assert first.ok
    assert second.ok
    expected = {"loss": 2, "output": 2, "gradient": 8, "losses": 2, "weight": 8}
    assert first.compared == second.compared == expected


def test_no_cases_and_unknown_runners_are_refused() -> None:
    with pytest.raises(hearth.InvalidInputError, match="cases is 0"):
        hearth.verify(compiled(), "wasm", cases=0)
    with pytest.raises(hearth.InvalidInputError, match="no runner 'cuda'"):
        hearth.verify(compiled(), "cuda")


def exact() -> np.ndarray:
    return np.array([1.0, -2.0, 4.0])


def test_an_error_is_allowed_up_to_four_times_pytorchs_own() -> None:
    rounded = exact() * (1 + 1e-5)
    good = judge(WEIGHT, 0, exact() * (1 + 3e-5), exact(), rounded, lambda _: 0.0)
    bad = judge(WEIGHT, 0, exact() * (1 + 5e-5), exact(), rounded, lambda _: 0.0)
    assert good.ok
    assert not bad.ok
    assert bad.index == (2,)


def test_a_bundle_compiled_fast_may_err_more_where_it_gains_by_it() -> None:
    conv = partial(torch.conv2d, padding=1)
    functions = {
        "conv": (conv, torch.zeros(2, 9, 8, 8), torch.zeros(8, 9, 3, 3)),
        "product": (torch.matmul, torch.zeros(2, 9), torch.zeros(9, 8)),
    }
    for name, accuracy, slack in (
        ("conv", "fast", 1e-5), ("conv", "strict", 1e-6), ("product", "fast", 1e-6),
    ):  # fmt: skip
        function, *examples = functions[name]
        manifest = hearth.compile_function(
            function, examples, batched=(True, False), backends=("wasm",), accuracy=accuracy
        ).manifest
        assert slack_of(manifest, "chromium:wasm") == slack
        assert slack_of(manifest, "webgpu") == 1e-6
    with pytest.raises(hearth.InvalidInputError, match="accuracy is 'exact'"):
        hearth.compile_function(function, examples, batched=(True, False), accuracy="exact")


def test_a_promise_binds_even_where_the_bound_is_wider() -> None:
    rounded = exact() * (1 + 5e-6)
    key = ("output", "output/0")
    assert not judge(key, 0, exact() * (1 + 1.5e-5), exact(), rounded, lambda _: 0.0).ok


def test_at_a_kink_the_spread_of_pytorch_decides() -> None:
    ours = exact() + np.array([0.0, 0.0, 0.1])
    assert not judge(WEIGHT, 0, ours, exact(), exact(), lambda _: 0.0).ok
    at_kink = judge(WEIGHT, 0, ours, exact(), exact(), lambda _: 0.05)
    assert at_kink.ok
    assert at_kink.at_kink


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_always_fails(value: float) -> None:
    report = VerifyReport("wasm", "none", 1)
    ours = exact()
    ours[1] = value
    report.add(judge(WEIGHT, 0, ours, exact(), exact(), lambda _: 1e30))
    assert not report.ok


def test_tied_weights_are_perturbed_together() -> None:
    places = {"embed": 0, "other": 256, "head": 0}
    entries = [State(n, "parameter", "float32", (5,), o) for n, o in places.items()]
    weights = {name: np.ones(5, np.float32) for name in places}
    moved = perturbed(weights, entries, np.random.default_rng(0))
    assert np.array_equal(moved["embed"], moved["head"])
    assert not np.array_equal(moved["embed"], weights["embed"])
    assert not np.array_equal(moved["embed"], moved["other"])


class Padded(nn.Module):
    """Averages over all positions, padded ones too."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        position = torch.arange(5)
        padding = position[None] >= 3 + (x[:, 0, :1] > 0)
        return self.head(self.encoder(x, src_key_padding_mask=padding).mean(1))


@pytest.mark.wasm
def test_predictions_are_judged_by_the_path_of_training() -> None:
    """PyTorch's shortcut for evaluation fills padded positions with zeros."""
    torch.manual_seed(0)
    model = Padded()
    step = hearth.TrainStep(model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), 0.1))
    labels = torch.zeros(2, dtype=torch.long)
    bundle = hearth.compile(step, torch.zeros(2, 5, 8), labels, backends=["wasm"])
    report = hearth.verify(bundle, "wasm", cases=2)
    assert report.ok, str(report)
