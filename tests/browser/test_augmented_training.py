"""A page trains with augmentation as PyTorch does, and shows what a step would see."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page
from torch import nn

import hearth
from hearth.bundle.safetensors import decode_safetensors
from hearth.capture.random import replay_random
from hearth.driver.oracle import Oracle
from hearth.functions.augmentation import Compose, Normalize, RandomApply, from_bytes
from hearth.functions.color import color_jitter
from hearth.functions.geometry import random_crop, random_flip
from hearth.functions.mixing import mixup, one_hot
from tests.browser.pages import WAYS, Way, attempt, failure, open_page, site

pytestmark = pytest.mark.chromium

SEED, STEPS, ROWS = 11, 4, 5
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (STEPS * ROWS, 3, 6, 6)).astype(np.uint8)
LABELS = RNG.integers(0, 3, STEPS * ROWS)
DATA = """
    const data = new hearth.ArrayDataset({
      x: Uint8Array.from(given.x), y: Uint8Array.from(given.y), samples: given.y.length });
    const loader = new hearth.DataLoader(data, { batchSize: 5 });
"""
GIVEN = {"x": IMAGES.ravel().tolist(), "y": LABELS.tolist()}

augmentation = Compose(
    [
        from_bytes,
        partial(random_crop, padding=2),
        random_flip,
        RandomApply(partial(color_jitter, brightness=0.4, contrast=0.4), 0.8),
        partial(one_hot, classes=3),
        mixup,
    ]
)


def step_of() -> tuple[hearth.TrainStep, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(
        Normalize([0.5] * 3, [0.25] * 3), nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(144, 3),
    )  # fmt: skip
    step = hearth.TrainStep(
        model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
        augmentation=augmentation,
    )
    return step, torch.zeros(1, 3, 6, 6, dtype=torch.int32), torch.zeros(1, dtype=torch.long)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("augmented") / "dist"
    hearth.compile(*step_of()).save(path)
    return path


@pytest.fixture(params=WAYS[1:], ids=lambda way: way.name)
def page(request: pytest.FixtureRequest, browser: Browser, folder: Path) -> Iterator[Page]:
    way: Way = request.param
    with site(isolated=way.isolated) as served:
        served.add_folder("/augmented/", folder)
        opened = open_page(browser, served)
        options = {"backend": way.backend, "threads": way.threads, "seed": SEED}
        body = 'globalThis.trainer = await Trainer.load("/augmented/", given);'
        attempt(opened, body, options)
        yield opened
        opened.close()


def rows_of(step: int) -> slice:
    return slice(step * ROWS, (step + 1) * ROWS)


def seen_in(step: int, draw: int) -> list[np.ndarray]:
    with replay_random(SEED, draw):
        rows = rows_of(step)
        batch = augmentation(torch.from_numpy(IMAGES[rows]), torch.from_numpy(LABELS[rows]))
    return [tensor.numpy().ravel() for tensor in batch]


def test_some_augmented_steps_of_fit_are_those_of_pytorch(page: Page) -> None:
    body = f"""{DATA}
        for await (const event of trainer.fit(loader, {{ epochs: 1 }}));
        return Array.from(await trainer.exportWeights());"""
    weights = decode_safetensors(bytes(attempt(page, body, GIVEN))).tensors
    oracle = Oracle(step_of()[0], torch.float64)
    for k in range(STEPS):
        oracle.train([IMAGES[rows_of(k)]], [LABELS[rows_of(k)]], SEED)
    for name, weight in weights.items():
        np.testing.assert_allclose(weight, oracle.weights[name], rtol=1e-4, atol=2e-6, err_msg=name)


def test_a_page_sees_what_a_step_would_see(page: Page) -> None:
    body = f"""{DATA}
        const lists = ({{ x, y }}) => [x, y].map((values) => Array.from(values));
        const found = [];
        for await (const batch of hearth.augmented(trainer, loader, {{ copies: 2, draw: 3 }})) {{
          found.push(lists(batch));
        }}
        const first = await loader.epoch(0).next();
        const next = lists(await hearth.augment(trainer, first.value));
        await trainer.trainBatch(first.value.x, first.value.y);
        return [found, next, lists(await hearth.augment(trainer, first.value))];"""
    found, next_, later = attempt(page, body, GIVEN)
    assert len(found) == 2 * STEPS
    wanted = [seen_in(k % STEPS, 3 + k) for k in range(2 * STEPS)]
    for ours, want in zip([*found, next_, later], [*wanted, seen_in(0, 0), seen_in(0, 1)],
                          strict=True):  # fmt: skip
        for tensor, right in zip(ours, want, strict=True):
            np.testing.assert_allclose(tensor, right, atol=1e-5)


def test_augmented_batches_can_be_kept_as_a_data_set(page: Page) -> None:
    """What comes back after a reload is what the steps would have seen, sample by sample."""
    kept = attempt(
        page,
        f"""{DATA}
        const {{ keepDataset }} = await import("/hearth-data.js");
        const made = hearth.augmented(trainer, loader, {{ copies: 2, draw: 3 }});
        const {{ length }} = await keepDataset("augmented", made);
        await trainer.dispose();
        return length;""",
        GIVEN,
    )
    assert kept == 2 * STEPS * ROWS
    page.reload()
    page.wait_for_function("document.title === 'ready'")
    found = attempt(
        page,
        """
        const { openDataset, removeDataset } = await import("/hearth-data.js");
        const loader = new hearth.DataLoader(await openDataset("augmented"), { batchSize: 5 });
        const found = [];
        for await (const { x, y } of loader.epoch(0)) found.push([[...x], [...y]]);
        await removeDataset("augmented");
        return found;""",
    )
    wanted = [seen_in(k % STEPS, 3 + k) for k in range(2 * STEPS)]
    for ours, want in zip(found, wanted, strict=True):
        for tensor, right in zip(ours, want, strict=True):
            np.testing.assert_allclose(tensor, right, atol=1e-5)


def test_what_cannot_be_augmented_is_refused(page: Page) -> None:
    read_once = f"""{DATA}
        for await (const _ of hearth.augmented(trainer, loader.epoch(0), given.o));"""
    name, message = failure(page, read_once, {**GIVEN, "o": {"copies": 2}})
    assert (name, "read once" in message) == ("InvalidInputError", True)
    assert failure(page, read_once, {**GIVEN, "o": {"draw": -1}})[0] == "InvalidInputError"
    name, message = failure(page, f"{DATA} await hearth.augment(trainer, {{ x: given.x }});", GIVEN)
    assert (name, '"target/0" is missing' in message) == ("InvalidInputError", True)
    plain = 'const t = await Trainer.load("/bundle/"); await hearth.augment(t, { x: [1] });'
    name, message = failure(page, plain)
    assert (name, "does not augment its batches" in message) == ("InvalidInputError", True)
