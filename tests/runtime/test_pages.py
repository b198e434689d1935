"""An arena in several GPU buffers: where pages begin, the same numbers, and what none holds."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import hearth
from hearth.bundle.manifest import Manifest
from hearth.bundle.memory import UNLIMITED, buffer_bytes, plan_memory
from hearth.bundle.read import Bundle, read_bundle
from hearth.bundle.wgsl import GENERAL, HALVES
from hearth.driver.compiled import Compiled
from hearth.errors import OutOfMemoryError
from hearth.runtime.bundle_runner import BundleRunner
from hearth.runtime.plan import buffers_of
from hearth.runtime.webgpu import ADAPTER_VARIABLE, WebgpuDevice

SPLIT = "split"  # the variant whose kernels leave something between two phases


@pytest.fixture(autouse=True)
def software_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ADAPTER_VARIABLE, "llvmpipe")


def compiled(model: nn.Module, shape: tuple[int, ...], **options: Any) -> Compiled:
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    step = hearth.TrainStep(model, nn.CrossEntropyLoss(), optimizer, **options)
    example = torch.zeros(1, *shape), torch.zeros(1, dtype=torch.long)
    bundle: Compiled = hearth.compile(step, *example, backends=("webgpu",))
    return bundle


def mlp() -> Compiled:
    return compiled(nn.Sequential(nn.Linear(512, 48), nn.ReLU(), nn.Linear(48, 5)), (512,))


def cnn(**options: Any) -> Compiled:
    layers = (nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
    head = (nn.Flatten(), nn.Dropout(0.3), nn.Linear(8 * 16, 24), nn.GELU(), nn.Linear(24, 5))
    return compiled(nn.Sequential(*layers, *head), (2, 8, 8), **options)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("pages")
    made = {"mlp": mlp(), "cnn": cnn(), "halves": cnn(precision="float16")}
    for name, bundle in made.items():
        bundle.save(folder / name, runtime=False)
    return {name: read_bundle(folder / name) for name in made}


# The bundle, the shape of a sample, the kernels, and the bytes of a page.
CASES = [
    ("mlp", (512,), GENERAL, 128 * 1024),
    ("mlp", (512,), SPLIT, 128 * 1024),
    ("cnn", (2, 8, 8), GENERAL, 80 * 1024),
    ("halves", (2, 8, 8), HALVES, 80 * 1024),
]


@pytest.mark.webgpu
@pytest.mark.parametrize(("name", "shape", "kernels", "page_bytes"), CASES)
def test_training_in_pages_is_bit_for_bit_training_in_one_buffer(
    bundles: dict[str, Bundle], name: str, shape: tuple[int, ...], kernels: str, page_bytes: int
) -> None:
    bundle = bundles[name]
    random = np.random.default_rng(0)
    batches = [
        ((random.normal(size=(n, *shape)).astype("f4"),), (random.integers(0, 5, n),))
        for n in (3, 40, 7)  # the second makes a new plan, which keeps the state
    ]
    results, pages = [], []
    for limit in (UNLIMITED, page_bytes):
        device = WebgpuDevice(bundle, kernels, limit)
        with BundleRunner(bundle, device, seed=3, batch_size=3) as runner:
            losses = runner.train_many(batches)
            gradients = runner.gradients(*batches[0]).gradients
            runner.load_state(runner.export_state())
            assert device._arena is not None
            pages.append([page.size for page in device._arena.pages])
            (predicted,) = runner.predict(batches[1][0])
            results.append(
                {"losses": losses, "predicted": predicted, **gradients, **runner.export_state()}
            )
    assert len(pages[0]) == 1
    assert len(pages[1]) >= 3
    assert max(pages[1]) <= page_bytes
    whole, paged = results
    for key, value in whole.items():
        np.testing.assert_array_equal(paged[key], value, err_msg=key)


@pytest.fixture(scope="module")
def manifest(bundles: dict[str, Bundle]) -> Manifest:
    return bundles["halves"].manifest


@settings(max_examples=30)
@given(batch=st.integers(1, 300), pages=st.integers(1, 40), halves=st.booleans())
def test_a_plan_in_pages_keeps_every_buffer_in_one_and_all_that_were_apart_apart(
    manifest: Manifest, batch: int, pages: int, halves: bool
) -> None:
    largest = max(buffer_bytes(manifest, i, batch, halves) for i in range(len(manifest.buffers)))
    page_bytes = -(-largest // 256) * 256 + 256 * pages
    paged = plan_memory(manifest, batch, halves, page_bytes)
    assert all(page.size_bytes <= page_bytes for page in paged.pages)
    assert all(a.start + a.size_bytes <= b.start for a, b in pairwise(paged.pages))
    for name, program in manifest.programs.items():
        ends = {}
        for buffer in sorted(set(buffers_of(program))):
            start = paged.offset_of(manifest, name, buffer)
            assert start % 256 == 0
            ends[buffer] = start, start + buffer_bytes(manifest, buffer, batch, halves)
            (page,) = (p for p in paged.pages if p.start <= start < p.start + p.size_bytes)
            assert ends[buffer][1] <= page.start + page.size_bytes
        for step in program.steps:
            for (_, end), (start, _) in pairwise(sorted(ends[b] for b in step.buffers)):
                assert end <= start


def test_an_arena_that_fits_is_one_page_as_ever(manifest: Manifest) -> None:
    whole = plan_memory(manifest, 32)
    (page,) = whole.pages
    assert (page.start, page.size_bytes) == (0, whole.arena_bytes)
    assert plan_memory(manifest, 32, page_bytes=whole.arena_bytes) == whole


@pytest.mark.webgpu
def test_a_tensor_that_no_page_holds_is_named_with_what_to_do(bundles: dict[str, Bundle]) -> None:
    bundle = bundles["cnn"]
    with pytest.raises(OutOfMemoryError) as refused, _runner(bundle, 1 << 15, 40):
        pass
    text = str(refused.value)
    assert "of the kernel k" in text
    assert "takes 81920 bytes for a batch of 40, and wgpu" in text
    assert "binds at most 32768 in one piece" in text
    assert "in your model: " in text
    assert "(module 0)" in text
    assert "use at most 16 samples per batch" in text
    with _runner(bundle, 1 << 15, 16) as runner:
        assert runner.plan.batch == 16


@pytest.mark.webgpu
def test_a_parameter_that_no_page_holds_is_named(bundles: dict[str, Bundle]) -> None:
    with pytest.raises(OutOfMemoryError) as refused, _runner(bundles["mlp"], 1 << 15, 1):
        pass
    text = str(refused.value)
    assert "0.weight" in text
    assert "a smaller layer" in text
    assert 'backend "wasm"' in text


def _runner(bundle: Bundle, page_bytes: int, batch: int) -> BundleRunner:
    return BundleRunner(bundle, WebgpuDevice(bundle, GENERAL, page_bytes), batch_size=batch)
