"""The page shows the inside of a model, and CPU and GPU side by side."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser, Page
from torch import nn

import hearth
from tests.browser.page.person import open_ready, press, train, wait_for
from tests.browser.site_server import Site

pytestmark = pytest.mark.chromium


def test_cpu_and_gpu_are_compared_on_the_same_steps(page: Page) -> None:
    press(page, "Compare")
    rows = page.locator("section", has_text="CPU and GPU side by side").locator("tbody tr")
    page.wait_for_function("document.querySelectorAll('tbody tr').length === 2")
    each = "[...document.querySelectorAll('tbody tr')].every"
    page.wait_for_function(f"{each}((row) => Number(row.cells[3]?.innerText) >= 8)")
    press(page, "End")
    assert rows.nth(0).inner_text().startswith("CPU")
    assert rows.nth(1).inner_text().startswith("GPU")


def test_the_inside_of_a_model_is_shown(browser: Browser, served: Site, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        model[0].bias[0] = -100  # a unit that never fires
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    step = hearth.TrainStep(model, loss=nn.CrossEntropyLoss(), optimizer=optimizer)
    example = torch.zeros(2, 4), torch.zeros(2, dtype=torch.long)
    hearth.compile(step, *example, backends=["wasm"], inspect=True).save(tmp_path / "bundle")
    served.add_folder("/bundle/", tmp_path / "bundle")
    page = open_ready(browser, served)
    page.check("[name=watch]")
    page.wait_for_selector("text=of 8 units never fire")
    train(page, 20)
    wait_for(page, "ready", "hearthPage.trainer.step === 200")
    names = page.locator("table.inside tbody th").all_inner_texts()
    assert names[:4] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    picture = page.get_by_role("img", name="gradient of 0.weight").first
    assert picture.locator("rect").count() > 8
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()
