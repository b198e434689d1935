from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scipy import stats

from hearth.functions.corruption import erase, gaussian_noise, random_erasing
from tests.functions.devices import assert_device_agrees


def images_of(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.rand(count, 3, 9, 7, generator=generator, dtype=torch.float64)


def test_noise_is_normal_and_clamped() -> None:
    torch.manual_seed(0)
    noise = gaussian_noise(torch.full((4, 3, 32, 32), 0.5), sigma=0.05) - 0.5
    assert stats.kstest(noise.flatten().double() / 0.05, "norm").pvalue > 0.01
    edge = gaussian_noise(torch.ones(2, 3, 8, 8), sigma=0.1)
    assert edge.max() == 1
    assert edge.min() < 1


def test_a_box_is_erased_and_the_rest_stays() -> None:
    images = images_of(2)
    boxes = torch.tensor([[2.0, 1.0, 3.0, 4.0], [0.0, 5.0, 99.0, 99.0]], dtype=torch.float64)
    want = images.clone()
    want[0, :, 2:5, 1:5] = 0.25
    want[1, :, :, 5:] = 0.25
    assert torch.equal(erase(images, boxes, 0.25), want)


def test_random_boxes_are_erased_with_the_probability_asked_for() -> None:
    torch.manual_seed(0)
    erased = random_erasing(torch.ones(2000, 1, 16, 16), 0.25, scale=(0.2, 0.2), ratio=(1.0, 1.0))
    lost = (erased == 0).flatten(1).sum(1)
    assert set(lost.tolist()) == {0, 49}  # round(sqrt(0.2 * 256)) is 7
    share = (lost > 0).double().mean().item()
    assert abs(share - 0.25) < 4 * (0.1875 / 2000) ** 0.5


@pytest.mark.parametrize("function", [gaussian_noise, random_erasing], ids=lambda f: f.__name__)
def test_a_compiled_corruption_draws_and_computes_the_same(
    device: str, tmp_path: Path, function: object
) -> None:
    assert_device_agrees(function, lambda b: [images_of(b)], device, tmp_path)
