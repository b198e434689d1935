"""A page runs compiled functions: by name, on data of any size, with weights trained elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page
from torch import nn

import hearth
from hearth.capture.random import replay_random
from hearth.functions.attribution import grad_cam
from hearth.functions.clustering import kmeans_step
from hearth.functions.corruption import gaussian_noise
from hearth.functions.projection import tsne_affinities, tsne_gradient
from tests.browser.pages import WAYS, Way, attempt, open_page, site

pytestmark = pytest.mark.chromium
SEED = 7


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.last = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.features(x).mean((2, 3)))


def affinities(points: torch.Tensor) -> torch.Tensor:
    return tsne_affinities(points, perplexity=3.0, bisections=20)


@pytest.fixture(scope="module")
def model() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def bundle(model: Net, tmp_path_factory: pytest.TempPathFactory) -> Path:
    points, images = torch.zeros(2, 3), torch.zeros(2, 3, 6, 5)
    classes = torch.zeros(2, dtype=torch.long)
    function = hearth.Function
    compiled = hearth.compile_functions(
        {
            "kmeans": function(kmeans_step, (points, torch.zeros(4, 3)), (True, False)),
            "affinities": function(affinities, points),
            "gradient": function(tsne_gradient, (torch.zeros(2, 2), points), ((0, 1), True)),
            "noise": function(gaussian_noise, images),
            "cam": function(grad_cam(model, model.features), (images, classes)),
        },
        model=model,
        count_runs=True,
    )
    folder = tmp_path_factory.mktemp("functions")
    compiled.save(folder, runtime=False)
    return folder


@pytest.fixture(params=WAYS, ids=lambda way: way.name)
def page(request: pytest.FixtureRequest, browser: Browser, bundle: Path) -> Iterator[Page]:
    way: Way = request.param
    with site(isolated=way.isolated) as served:
        served.add_folder("/functions/", bundle)
        opened = open_page(browser, served)
        body = 'globalThis.bundle = await Trainer.load("/functions/", given);'
        options = {"backend": way.backend, "threads": way.threads, "seed": SEED}
        attempt(opened, body, options)
        yield opened
        opened.close()


def run(page: Page, program: str, *tensors: torch.Tensor) -> dict[str, Any]:
    given = [
        ["Float32Array" if t.is_floating_point() else "Int32Array", t.flatten().tolist()]
        for t in tensors
    ]
    body = """
      const inputs = given.inputs.map(([type, data], k) =>
        [`input/${k}`, globalThis[type].from(data)]);
      const found = await bundle.run(given.program, Object.fromEntries(inputs));
      return Object.entries(found).map(([name, data]) => [name, Array.from(data)]);"""
    found = attempt(page, body, {"program": program, "inputs": given})
    return {name: np.array(data) for name, data in found}


def assert_close(ours: Any, want: torch.Tensor) -> None:
    want = want.detach().flatten()
    scale = want.abs().max().item() if want.is_floating_point() else 0
    np.testing.assert_allclose(ours, want, rtol=1e-4, atol=1e-5 * scale)


def test_a_page_clusters_and_projects_points(page: Page) -> None:
    for count in (5, 33):
        points = torch.randn(count, 3, generator=torch.Generator().manual_seed(count))
        found = run(page, "kmeans", points, points[:4])
        for name, want in kmeans_step(points, points[:4])._asdict().items():
            assert_close(found[f"output/{name}"], want)
        joint = run(page, "affinities", points)["output/0"]
        assert_close(joint, affinities(points))
        moved = run(page, "gradient", affinities(points), points)["output/0"]
        assert_close(moved, tsne_gradient(affinities(points), points)[0])


def test_every_run_in_a_page_draws_the_next_random_numbers(page: Page) -> None:
    images = torch.full((2, 3, 6, 5), 0.5)
    for step in (0, 1):
        with replay_random(SEED, step):
            want = gaussian_noise(images)
        assert_close(run(page, "noise", images)["output/0"], want)


def test_a_page_looks_through_weights_that_it_loads(page: Page, tmp_path: Path) -> None:
    torch.manual_seed(1)
    other = Net().eval()
    images, classes = torch.randn(2, 3, 6, 5), torch.tensor([2, 0])
    hearth.save_weights(other.state_dict(), tmp_path / "other.safetensors")
    file = (tmp_path / "other.safetensors").read_bytes()
    attempt(page, "await bundle.loadWeights(Uint8Array.from(given));", list(file))
    want = grad_cam(other, other.features)(images, classes)
    assert want.max() > 0
    assert_close(run(page, "cam", images, classes)["output/0"], want)
