"""The page shows the metric of a bundle: on the test set, and live where the step tells it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser
from torch import nn

import hearth
from tests.browser.page.person import figure, open_ready, train, wait_for
from tests.browser.site_server import Site

pytestmark = pytest.mark.chromium

Metrics = Mapping[str, Callable[..., torch.Tensor]] | None


def serve_classifier(served: Site, folder: Path, *, live: bool, metrics: Metrics = None) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    step = hearth.TrainStep(
        model,
        loss=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        metrics=metrics,
        training_metrics=live,
    )
    example = torch.zeros(2, 4), torch.zeros(2, dtype=torch.long)
    hearth.compile(step, *example, backends=["wasm"]).save(folder / "bundle")
    served.add_folder("/bundle/", folder / "bundle")


def test_training_accuracy_is_live_beside_that_of_the_test_set(
    browser: Browser, served: Site, tmp_path: Path
) -> None:
    serve_classifier(served, tmp_path, live=True)
    page = open_ready(browser, served)
    assert figure(page, "metric") == figure(page, "score") == "–"
    train(page, 20)
    wait_for(page, "training", "hearthPage.shown.figures?.metric > 0")  # not only in the end
    wait_for(page, "ready", "hearthPage.trainer.step === 200")
    for name in ("metric", "score"):
        assert figure(page, name).endswith(" %")
        assert 50 < float(figure(page, name).removesuffix(" %")) <= 100
    told = "async (samples) => (await hearthPage.trainer.evaluate(samples)).metrics.accuracy"
    data = "new hearthPage.hearth.DataLoader(hearthPage.data.test)"
    assert figure(page, "score") == f"{100 * page.evaluate(f'({told})({data})'):.1f} %"
    batches = page.evaluate("hearthPage.shown.trainingMetric.columns().mean")
    mean = sum(batches[-10:]) / 10
    assert page.inner_text("[data-detail=metric]") == f"epoch {100 * mean:.1f} %"
    label = page.get_by_role("img", name="Accuracy: training from").get_attribute("aria-label")
    assert ", test from" in (label or "")
    assert len(batches) == 200
    page.reload()
    wait_for(page, "ready", "hearthPage.trainer.step === 200")
    assert page.evaluate("hearthPage.shown.trainingMetric.columns().mean") == batches
    assert figure(page, "score").endswith(" %")
    page.close()


def test_without_training_metrics_only_the_test_set_has_accuracy(
    browser: Browser, served: Site, tmp_path: Path
) -> None:
    serve_classifier(served, tmp_path, live=False)
    page = open_ready(browser, served)
    train(page, 2)
    wait_for(page, "ready", "hearthPage.trainer.step === 20")
    assert page.locator("[data-figure=metric]").count() == 0
    assert page.get_by_role("img", name="Accuracy: test from").count() == 1
    page.close()


def test_a_metric_that_is_no_share_is_shown_as_a_number(
    browser: Browser, served: Site, tmp_path: Path
) -> None:
    largest = {"largest_logit": lambda outputs, labels: 100 * outputs.amax(1).mean() + 1000}
    serve_classifier(served, tmp_path, live=True, metrics=largest)
    page = open_ready(browser, served)
    train(page, 2)
    wait_for(page, "ready", "hearthPage.trainer.step === 20")
    assert page.inner_text("dl").count("largest logit") == 2
    assert "%" not in figure(page, "score")
    assert page.get_by_role("img", name="Largest logit: training from").count() == 1
    page.close()
