"""Whole architectures trained like PyTorch on every backend, at batch sizes not compiled with.

On a GPU in software nearly all of the time goes into compiling shaders, most of it in Chromium.
There a few models are trained that have every kind of layer; of the others, as of these, Chromium
must accept every module of every variant, and the same WGSL is trained on through wgpu.
docs/architectures.md has twenty steps of all models on all backends.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, sync_playwright

from hearth.bundle.wgsl import split_modules
from hearth.driver.compiled import Compiled
from tests.architectures.models import ARCHITECTURES
from tests.architectures.training import STEPS, seeded, train
from tests.browser.pages import chromium
from tests.browser.tint import gpu_page, messages

pytestmark = [pytest.mark.slow, pytest.mark.wasm, pytest.mark.webgpu, pytest.mark.chromium]

ON_WEBASSEMBLY = {"wasm": STEPS, "chromium:wasm": STEPS}
ON_WEBGPU = {"webgpu": 4}
IN_CHROMIUM_ON_WEBGPU = {"chromium:webgpu": 4}
WITH_EVERY_LAYER = (
    "mobilenet_v2",  # convolutions, also of one channel each; BatchNorm; dropout
    "convnext",  # LayerNorm over channels; 7x7 windows; GELU
    "unet_transposed",  # transposed convolutions; concatenation
    "variational_autoencoder",  # random numbers
    "vit_tiny",  # attention
    "gpt",  # embeddings; causal attention; tied weights
    "lstm",  # loops over time
    "sensor",  # convolutions in one dimension
    "rms_norm",
    "detector",  # several inputs and targets
)


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with (
        sync_playwright() as playwright,
        chromium(playwright) as browser,
        gpu_page(browser) as opened,
    ):
        yield opened


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_trains_like_pytorch_on_every_backend(name: str, page: Page) -> None:
    example = seeded(name)
    step, *_ = example
    in_chromium = IN_CHROMIUM_ON_WEBGPU if name in WITH_EVERY_LAYER else {}
    training = train(example, ON_WEBASSEMBLY | ON_WEBGPU | in_chromium)
    for run in training.runs.values():
        assert run.report.ok, str(run.report)
        assert run.report.compared["losses"] == 1
        assert run.report.compared["weight"] == len(step.model.state_dict())
        assert run.report.compared["gradient"] == len(step.trainable)
    assert messages(page, modules(training.bundle)) == []


def modules(bundle: Compiled) -> dict[str, str]:
    """Every WGSL module of every variant."""
    return {
        f"{file} {name}": code
        for file, text in bundle.files.items()
        if file.endswith(".wgsl")
        for name, code in split_modules(text.decode()).items()
    }
