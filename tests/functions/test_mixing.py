from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from hearth.functions.mixing import cut, cutmix, mix, mixup, symmetric_beta
from tests.functions.devices import assert_device_agrees


def images_of(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.rand(count, 2, 9, 6, generator=generator, dtype=torch.float64)


def labels_of(count: int) -> torch.Tensor:
    return torch.eye(4, dtype=torch.float64)[torch.arange(count) % 4]


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 2.0, 30.0])
def test_shares_have_the_beta_distribution(alpha: float) -> None:
    torch.manual_seed(1)
    drawn = symmetric_beta(torch.zeros(20_000, dtype=torch.float64), alpha)
    assert drawn.isfinite().all()
    assert stats.kstest(drawn.numpy(), stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_extreme_draws_are_finite() -> None:
    assert symmetric_beta(torch.zeros(20_000), 1e-4).isfinite().all()
    assert symmetric_beta(torch.zeros(20_000), 1e4).isfinite().all()


def test_images_and_labels_are_mixed_with_the_one_before() -> None:
    images, labels = images_of(5), labels_of(5)
    share = torch.linspace(0, 1, 5, dtype=torch.float64)
    mixed = mix(images, labels, share)
    for k in range(5):
        want = share[k] * images[k] + (1 - share[k]) * images[k - 1]
        np.testing.assert_allclose(mixed.images[k], want, atol=1e-15)
    np.testing.assert_allclose(mixed.labels.sum(1), 1)
    assert torch.equal(mixed.labels[4], labels[4])


def test_a_box_comes_from_the_one_before_and_counts_where_it_is_inside() -> None:
    images, labels = images_of(3), labels_of(3)
    boxes = torch.tensor([[-2.0, 4.0, 5.0, 4.0], [0.0, 0.0, 9.0, 6.0], [1.0, 1.0, 0.0, 3.0]])
    mixed = cut(images, labels, boxes.double())
    want = images[0].clone()
    want[:, :3, 4:] = images[2][:, :3, 4:]
    assert torch.equal(mixed.images[0], want)
    np.testing.assert_allclose(mixed.labels[0], [1 - 6 / 54, 0, 6 / 54, 0], atol=1e-12)
    assert torch.equal(mixed.images[1], images[0])
    assert torch.equal(mixed.labels[1], labels[0])
    assert torch.equal(mixed.images[2], images[2])


def test_a_single_image_stays_as_it_is() -> None:
    images, labels = images_of(1), labels_of(1)
    for function in (mixup, cutmix):
        mixed = function(images, labels)
        np.testing.assert_allclose(mixed.images, images, rtol=1e-12)
        np.testing.assert_allclose(mixed.labels, labels, rtol=1e-12)


def test_boxes_cover_the_area_that_was_drawn_where_the_border_does_not_cut_them() -> None:
    torch.manual_seed(0)
    images = torch.arange(2.0).reshape(2, 1, 1, 1).expand(2, 1, 40, 40).repeat(1000, 1, 1, 1)
    labels = torch.eye(2).repeat(1000, 1)
    mixed = cutmix(images, labels)
    share = mixed.labels.amax(1)
    kept = (mixed.images == images).double().mean((1, 2, 3))
    np.testing.assert_allclose((mixed.labels * labels).sum(1), kept, atol=1e-6)
    assert 0.5 <= share.min() < 0.6 < 0.9 < share.max() <= 1


@pytest.mark.parametrize("function", [mixup, cutmix], ids=lambda f: f.__name__)
def test_compiled_mixing_draws_and_computes_the_same(
    device: str, tmp_path: Path, function: object
) -> None:
    assert_device_agrees(function, lambda b: (images_of(b), labels_of(b)), device, tmp_path)
