"""Tensors without elements: no kernel computes them, and no device is asked to bind nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import hearth
from hearth.bundle.memory import slot_bytes
from hearth.runtime.bundle_runner import BundleRunner


def nothing(x: torch.Tensor) -> torch.Tensor:
    return x[:, :0] * 2


def nothing_among_more(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    empty = x[:, :0] * 2
    return empty, empty.sum(1) + x.sum(1), torch.cat([empty, x.sin()], 1)


@pytest.mark.wasm
@pytest.mark.webgpu
@pytest.mark.parametrize("runner", ["reference", "wasm", "webgpu"])
@pytest.mark.parametrize("function", [nothing, nothing_among_more])
def test_empty_tensors_come_out_as_pytorch_makes_them(
    function: Callable[[torch.Tensor], object], runner: str, tmp_path: Path
) -> None:
    compiled = hearth.compile_function(function, torch.zeros(2, 3))
    compiled.save(tmp_path / "dist", runtime=False)
    x = torch.arange(12, dtype=torch.float32).reshape(4, 3)
    expected = function(x)
    expected = expected if isinstance(expected, tuple) else (expected,)
    opened = hearth.open_runner(tmp_path / "dist", runner)
    assert isinstance(opened, BundleRunner)
    with opened:
        found = opened.run("run", (x.numpy(),)).values()
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == tuple(theirs.shape)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_kernel_without_points_is_no_step_and_a_slot_is_never_empty() -> None:
    program = hearth.compile_function(nothing, torch.zeros(2, 3)).manifest.programs["run"]
    assert program.steps == ()
    assert min(slot_bytes(program, 1)) == 256


@pytest.mark.wasm
@pytest.mark.webgpu
@pytest.mark.parametrize("runner", ["reference", "wasm", "webgpu"])
def test_an_empty_tensor_may_be_an_input(runner: str, tmp_path: Path) -> None:
    examples = [torch.zeros(3, 2), torch.zeros(3, 0)]
    compiled = hearth.compile_function(lambda x, y: torch.cat([x, y], 1), examples, batched=False)
    compiled.save(tmp_path / "dist", runtime=False)
    opened = hearth.open_runner(tmp_path / "dist", runner)
    assert isinstance(opened, BundleRunner)
    with opened:
        x, nothing = np.ones((3, 2), np.float32), np.zeros((3, 0), np.float32)
        np.testing.assert_array_equal(opened.run("run", [x, nothing])["output/0"], x)
