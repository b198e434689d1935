"""A parameter group of more than a GPU binds in one piece is updated in several vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hearth
from hearth.bundle.memory import buffer_bytes
from hearth.bundle.read import read_bundle
from hearth.driver.compiled import Compiled
from hearth.runtime.bundle_runner import BundleRunner
from hearth.runtime.webgpu import ADAPTER_VARIABLE, WebgpuDevice

MOST_ELEMENTS = 3000
PAGE_BYTES = 16384


def compiled(backend: str, most_elements: int | None = None) -> Compiled:
    torch.manual_seed(0)
    layers = [layer for _ in range(3) for layer in (nn.Linear(48, 48), nn.Tanh())]
    model = nn.Sequential(*layers, nn.Linear(48, 5))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    step = hearth.TrainStep(
        model, nn.CrossEntropyLoss(), optimizer, clip_grad_norm=0.1, accumulate=True
    )
    examples = torch.zeros(1, 48), torch.zeros(1, dtype=torch.long)
    with pytest.MonkeyPatch.context() as patch:
        if most_elements is not None:
            patch.setattr("hearth.steps.optimizer.MOST_ELEMENTS", most_elements)
        # The updates of a group, as a value to look at, are one tensor still.
        taps = hearth.Taps(values=backend == "wasm")
        bundle: Compiled = hearth.compile(step, *examples, backends=(backend,), inspect=taps)
    return bundle


@pytest.fixture(scope="module")
def whole() -> Compiled:
    return compiled("wasm")


@pytest.fixture(scope="module")
def several() -> Compiled:
    return compiled("wasm", MOST_ELEMENTS)


def batches() -> list[Any]:
    random = np.random.default_rng(0)
    return [
        ((random.normal(size=(n, 48)).astype("f4"),), (random.integers(0, 5, n),))
        for n in (20, 7, 20)
    ]


def trained(runner: Any) -> dict[str, Any]:
    """What whole steps, one of two micro-batches, and a look inside leave."""
    given = batches()
    losses = runner.train_many(given)
    for batch in given[:2]:
        runner.accumulate_batch(*batch)
    norm = runner.apply_gradients()
    seen = runner.run("inspect", *given[0])
    vectors = [seen.pop(name) for name in sorted(seen) if name.startswith("values/updates/")]
    updates = np.concatenate([[], *vectors])
    return {**norm, "losses": losses, **seen, "updates": updates, **runner.export_state()}


@pytest.mark.wasm
def test_several_vectors_train_as_one(whole: Compiled, several: Compiled, tmp_path: Path) -> None:
    found = []
    for name, bundle in (("whole", whole), ("several", several)):
        bundle.save(tmp_path / name, runtime=False)
        with hearth.open_runner(tmp_path / name, "wasm", seed=3) as runner:
            found.append(trained(runner))
    assert found[0].keys() == found[1].keys()
    for key, value in found[0].items():  # the norm is summed in another order
        if not key.startswith("histogram/"):
            np.testing.assert_allclose(found[1][key], value, rtol=1e-3, atol=1e-5, err_msg=key)


def test_no_vector_is_larger_than_it_may_be_but_for_a_single_parameter(
    whole: Compiled, several: Compiled
) -> None:
    def largest(bundle: Compiled) -> int:
        manifest = bundle.manifest
        bound = {b for step in manifest.programs["train"].steps for b in step.buffers}
        return max(
            buffer_bytes(manifest, b, 1) for b in bound if manifest.buffers[b].offset is not None
        )

    assert largest(several) <= 4 * MOST_ELEMENTS
    assert largest(whole) > 2 * largest(several)
    names = {s.name for s in several.manifest.state if s.role == "workspace"}
    assert {"gradient/0.0", "gradient/0.2", "accumulated/0.0"} <= names
    weights = [[s.name for s in b.manifest.weights] for b in (whole, several)]
    assert weights[0] == weights[1]


def test_gradients_lie_behind_all_that_is_saved(whole: Compiled, several: Compiled) -> None:
    behind = ("workspace", "constant")
    for state in (whole.manifest.state, several.manifest.state):
        saved = max(entry.offset for entry in state if entry.role not in behind)
        assert all(entry.offset > saved for entry in state if entry.role in behind)


@pytest.mark.webgpu
def test_a_group_larger_than_a_binding_trains_in_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ADAPTER_VARIABLE, "llvmpipe")
    compiled("webgpu", MOST_ELEMENTS).save(tmp_path, runtime=False)
    bundle = read_bundle(tmp_path)
    results = []
    for limit in (1 << 40, PAGE_BYTES):
        device = WebgpuDevice(bundle, None, limit)
        with BundleRunner(bundle, device, seed=3) as runner:
            results.append(trained(runner))
            assert device._arena is not None
            assert (len(device._arena.pages) > 8) == (limit == PAGE_BYTES)
    for key, value in results[0].items():
        np.testing.assert_array_equal(results[1][key], value, err_msg=key)
