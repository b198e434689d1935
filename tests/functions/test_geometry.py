from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from scipy.ndimage import map_coordinates

from hearth.functions.geometry import (
    affine_matrices,
    flip,
    random_affine,
    random_boxes,
    random_flip,
    random_resized_crop,
    resized_crop,
    warp,
)
from tests.functions.devices import assert_device_agrees

SIZE = (7, 11)  # rows, columns


def images_of(count: int, channels: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.rand(count, channels, *SIZE, generator=generator, dtype=torch.float64)


def parameters_of(count: int) -> list[torch.Tensor]:
    """Degrees, translation, zoom and shear."""
    generator = torch.Generator().manual_seed(count)
    u = torch.rand(count, 6, generator=generator, dtype=torch.float64)
    return [u[:, 0] * 360 - 180, u[:, 1:3] * 6 - 3, 0.5 + u[:, 3], u[:, 4:6] * 60 - 30]


def moved(image: np.ndarray, degrees: float, by: np.ndarray, zoom: float, shear: np.ndarray):
    """SciPy's sampling at the inverse of a product of textbook matrices."""
    a, (sx, sy) = math.radians(degrees), np.radians(shear)
    rotation = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
    slant_y = np.array([[1, 0], [-math.tan(sy), 1]])
    slant_x = np.array([[1, -math.tan(sx)], [0, 1]])
    forward = rotation @ slant_y @ slant_x * zoom
    centre = np.array([(SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2])
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    target = np.stack([x, y], -1) - centre - by
    source = target @ np.linalg.inv(forward).T + centre
    where = source[..., ::-1].transpose(2, 0, 1)
    return np.stack([map_coordinates(c, where, order=1, mode="grid-constant") for c in image])


def test_images_move_as_the_product_of_the_textbook_matrices_says() -> None:
    images, parameters = images_of(6), parameters_of(6)
    ours = warp(images, affine_matrices(SIZE, *parameters))
    for k in range(6):
        degrees, by, zoom, shear = (p[k].numpy() for p in parameters)
        want = moved(images[k].numpy(), float(degrees), by, float(zoom), shear)
        np.testing.assert_allclose(ours[k], want, atol=1e-12)


def test_a_quarter_turn_of_a_square_image_moves_pixels_only() -> None:
    image = images_of(1)[..., :7]
    still = torch.zeros(1, 2, dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    turned = warp(image, affine_matrices((7, 7), one * 90, still, one, still))
    np.testing.assert_allclose(turned, image.rot90(-1, (2, 3)), atol=1e-12)  # clockwise


def test_a_crop_is_the_box_and_the_whole_image_resized_is_interpolate() -> None:
    images = images_of(3)
    boxes = torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float64).expand(3, 4)
    np.testing.assert_allclose(
        resized_crop(images, boxes, (3, 4)), images[:, :, 1:4, 2:6], atol=1e-12
    )
    whole = torch.tensor([[0.0, 0.0, *SIZE]], dtype=torch.float64).expand(3, 4)
    for size in ((5, 6), (14, 13)):
        want = F.interpolate(images, size, mode="bilinear", align_corners=False)
        np.testing.assert_allclose(resized_crop(images, whole, size), want, atol=1e-12)


def test_boxes_lie_inside_and_have_the_area_and_the_ratio_asked_for() -> None:
    torch.manual_seed(0)
    images = torch.zeros(2000, 1, 32, 32, dtype=torch.float64)
    top, left, rows, columns = random_boxes(images, (0.1, 0.4), (0.5, 2.0)).unbind(1)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + rows <= 32 + 1e-9).all()
    assert (left + columns <= 32 + 1e-9).all()
    area, ratio = rows * columns / 32**2, columns / rows
    assert abs(area.mean() - 0.25) < 4 * 0.3 / 12**0.5 / 2000**0.5
    assert 0.1 <= area.min() < area.max() <= 0.4
    assert abs(ratio.log().mean()) < 4 * math.log(4) / 12**0.5 / 2000**0.5
    long = random_boxes(images, (1.0, 1.0), (4.0, 4.0))
    assert (long[:, 3] == 32).all()  # cut to the image


def test_chosen_images_are_mirrored() -> None:
    images = images_of(2)
    mirrored = flip(images, torch.tensor([True, False]))
    assert torch.equal(mirrored[0], images[0].flip(2))
    assert torch.equal(mirrored[1], images[1])
    torch.manual_seed(0)
    many = torch.arange(2.0).expand(1000, 1, 1, 2)
    share = (random_flip(many, 0.3)[..., 0] == 1).double().mean().item()
    assert abs(share - 0.3) < 4 * (0.21 / 1000) ** 0.5


def test_a_random_affine_without_ranges_changes_nothing() -> None:
    images = images_of(2)
    np.testing.assert_allclose(random_affine(images), images, atol=1e-12)


def test_a_gradient_flows_through_a_warp_without_nan() -> None:
    images, parameters = images_of(2).requires_grad_(), parameters_of(2)
    total = warp(images, affine_matrices(SIZE, *parameters)).square().sum()
    assert torch.autograd.grad(total, images)[0].isfinite().all()


def _affine(images: torch.Tensor) -> torch.Tensor:
    return random_affine(images, degrees=30, translation=0.2, zoom=(0.7, 1.4), shear=10)


def test_a_compiled_warp_agrees(device: str, tmp_path: Path) -> None:
    assert_device_agrees(
        lambda images, *p: warp(images, affine_matrices(SIZE, *p)),
        lambda b: [images_of(b), *parameters_of(b)], device, tmp_path,
    )  # fmt: skip


@pytest.mark.parametrize(
    "function",
    [_affine, random_flip, lambda x: random_resized_crop(x, (5, 6))],
    ids=["random_affine", "random_flip", "random_resized_crop"],
)
def test_a_compiled_random_warp_draws_and_computes_the_same(
    device: str, tmp_path: Path, function: object
) -> None:
    assert_device_agrees(function, lambda b: [images_of(b)], device, tmp_path)
