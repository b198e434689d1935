"""Every lowered operation against PyTorch in float64, on every target."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree

from hearth.capture.graph import AtenGraph
from hearth.capture.opset import CORE_OPS
from hearth.capture.trace import capture
from hearth.capture.traced import TracedInput, TracedOutput, Tracing
from hearth.ir.dtype import DEVICE_DTYPE
from hearth.lowering.lower import Lowered, lower
from hearth.lowering.rules import RULES
from hearth.steps.examples import RANDOM_INPUTS
from tests.ops.oracle import assert_close, expected, representable
from tests.ops.samples import SAMPLES
from tests.ops.samples.sample import Sample
from tests.ops.targets import TARGETS, Target

SEED, STEP = 0x1234_5678_9ABC_DEF0, 3


@pytest.fixture(autouse=True)
def _doubles() -> Iterator[None]:
    """Integers are promoted to float64, in captures and in the oracle."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(params=TARGETS.values(), ids=lambda t: t.name)
def target(request: pytest.FixtureRequest) -> Target:
    return request.param


@cache
def captured(sample: Sample) -> AtenGraph:
    """In float64, so that constants and literals are exact too."""
    tensors = sample.draw(7, seed=0)
    inputs = [
        TracedInput(f"input/{k}", "input", tuple(t.shape), t.dtype, i.batched)
        for k, (t, i) in enumerate(zip(tensors, sample.inputs, strict=True))
    ]

    def body(t: dict[str, torch.Tensor], _: Tracing) -> list[TracedOutput]:
        leaves = pytree.tree_leaves(sample.function(*(t[i.name] for i in inputs)))
        return [TracedOutput(f"output/{k}", "output", y.detach()) for k, y in enumerate(leaves)]

    return capture(body, [*inputs, *RANDOM_INPUTS])


@cache
def lowered(sample: Sample) -> Lowered:
    return lower(captured(sample), DEVICE_DTYPE)


def feeds_of(tensors: list[torch.Tensor]) -> dict[str, Any]:
    words = np.array([SEED & 0xFFFFFFFF, SEED >> 32], np.uint32)
    feeds = {f"input/{k}": t.numpy() for k, t in enumerate(tensors)}
    return {**feeds, "hearth/seed": words, "hearth/step": np.array(STEP, np.int32)}


@pytest.mark.filterwarnings("ignore:var.*degrees of freedom")  # NaN at B = 1, here and there
@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_a_lowered_operation_computes_what_pytorch_does(
    sample: Sample, batch: int, target: Target
) -> None:
    tensors = [representable(t, target.floats) for t in sample.draw(batch, seed=batch)]
    graph = lowered(sample).graph
    results = target.run(graph, feeds_of(tensors), batch)
    for k, want in enumerate(expected(sample, tensors, SEED, STEP)):
        assert_close(results[f"output/{k}"], want.numpy(), target.epsilon)


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_a_sample_contains_the_operation_it_stands_for(sample: Sample) -> None:
    targets = [node.target for node in captured(sample).nodes]
    assert sample.op in targets


def test_every_rule_has_a_sample_and_every_core_operation_a_rule() -> None:
    assert {s.op for s in SAMPLES} == set(RULES) == set(CORE_OPS)
