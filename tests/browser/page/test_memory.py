"""The page trains a model of large activations within its budget, and says what is too much."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser, Page
from torch import nn

import hearth
from tests.browser.page.person import figure, open_ready, press, train, wait_for
from tests.browser.site_server import Site

pytestmark = pytest.mark.chromium

WIDE = 400_000


@pytest.fixture
def page(browser: Browser, served: Site, tmp_path: Path) -> Page:
    """A model of which 256 samples, a batch of the test set, take more than the page allows."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, WIDE), nn.Sigmoid(), nn.Linear(WIDE, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    step = hearth.TrainStep(model, loss=nn.CrossEntropyLoss(), optimizer=optimizer)
    example = torch.zeros(2, 4), torch.zeros(2, dtype=torch.long)
    bundle = hearth.compile(step, *example, backends=["wasm"])
    bundle.save(tmp_path / "bundle")
    served.add_folder("/bundle/", tmp_path / "bundle")
    return open_ready(browser, served)


def test_the_test_set_is_evaluated_in_batches_that_fit(page: Page) -> None:
    assert page.evaluate("hearthPage.trainer.bytesFor(256)") > 256 * 2**20
    train(page, 1)
    wait_for(page, "ready", "hearthPage.trainer.step === 10")
    assert page.locator("[role=alert]").count() == 0
    assert float(figure(page, "test-loss")) > 0
    page.close()


def test_a_batch_that_does_not_fit_is_refused_with_one_that_does(page: Page) -> None:
    train(page, 1, 4096)
    alert = page.wait_for_selector("[role=alert]")
    assert alert
    found = re.search(r"batch size of (\d+) or less", alert.inner_text())
    assert found, alert.inner_text()
    wait_for(page, "ready")
    press(page, "Dismiss")
    assert page.locator("[role=alert]").count() == 0
    train(page, 1, int(found[1]))
    wait_for(page, "ready", "hearthPage.trainer.step > 0")
    assert page.locator("[role=alert]").count() == 0
    page.close()
