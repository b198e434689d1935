from __future__ import annotations

import colorsys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hearth.functions.color import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    color_jitter,
    grayscale,
    hsv_to_rgb,
    rgb_to_hsv,
)
from tests.functions.devices import assert_device_agrees

Adjust = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def images_of(count: int) -> torch.Tensor:
    """Random pixels; and primaries, mixtures, grays, black and white in every image."""
    generator = torch.Generator().manual_seed(count)
    images = torch.rand(count, 3, 5, 8, generator=generator, dtype=torch.float64)
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3).double()
    images[:, :, 0] = corners.T
    images[:, :, 1] = torch.linspace(0, 1, 8, dtype=torch.float64)
    return images


def pixels(images: torch.Tensor) -> np.ndarray:
    return images.permute(0, 2, 3, 1).reshape(-1, 3).numpy()


def test_hue_saturation_and_value_are_those_of_colorsys() -> None:
    images = images_of(3)
    want = [colorsys.rgb_to_hsv(*p) for p in pixels(images)]
    ours = rgb_to_hsv(images)
    np.testing.assert_allclose(pixels(ours), want, atol=1e-12)
    back = [colorsys.hsv_to_rgb(*p) for p in want]
    np.testing.assert_allclose(pixels(hsv_to_rgb(ours)), back, atol=1e-12)
    np.testing.assert_allclose(hsv_to_rgb(ours), images, atol=1e-12)


@pytest.mark.parametrize("turn", [0.0, 0.25, -0.3, 0.5, 1.0, -2.75])
def test_the_hue_turns_and_wraps_around(turn: float) -> None:
    images = images_of(2)
    want = []
    for pixel in pixels(images):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        want.append(colorsys.hsv_to_rgb((hue + turn) % 1.0, saturation, value))
    ours = adjust_hue(images, torch.full((2,), turn, dtype=torch.float64))
    np.testing.assert_allclose(pixels(ours), want, atol=1e-12)


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.7])
def test_the_other_adjustments_are_blends(factor: float) -> None:
    images = images_of(2)
    rgb = images.numpy()
    gray = 0.2989 * rgb[:, 0] + 0.587 * rgb[:, 1] + 0.114 * rgb[:, 2]
    np.testing.assert_allclose(grayscale(images)[:, 0], gray, atol=1e-12)
    others = {
        adjust_brightness: np.zeros((2, 1, 1, 1)),
        adjust_contrast: gray.mean((1, 2))[:, None, None, None],
        adjust_saturation: gray[:, None],
    }
    for adjust, other in others.items():
        ours = adjust(images, torch.full((2,), factor, dtype=torch.float64))
        want = np.clip(other + factor * (rgb - other), 0, 1)
        np.testing.assert_allclose(ours, want, atol=1e-12)


def test_every_image_has_its_own_factors_and_no_strength_changes_nothing() -> None:
    images = images_of(1).expand(4, 3, 5, 8)
    torch.manual_seed(0)
    jittered = color_jitter(images, 0.5, 0.5, 0.5, 0.2)
    assert len(jittered.flatten(1).unique(dim=0)) == 4
    assert 0 <= jittered.min() <= jittered.max() <= 1
    assert torch.equal(color_jitter(images), images)


@pytest.mark.parametrize(
    "adjust", [adjust_contrast, adjust_saturation, adjust_hue], ids=lambda f: f.__name__
)
def test_a_compiled_adjustment_agrees(device: str, tmp_path: Path, adjust: Adjust) -> None:
    assert_device_agrees(
        adjust, lambda b: (images_of(b), torch.linspace(-0.4, 1.3, b).double()), device, tmp_path
    )


def test_compiled_jitter_draws_and_computes_the_same(device: str, tmp_path: Path) -> None:
    assert_device_agrees(
        lambda x: color_jitter(x, 0.4, 0.4, 0.4, 0.1), lambda b: [images_of(b)], device, tmp_path
    )
