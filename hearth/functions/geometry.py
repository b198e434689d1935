"""Images [B, C, H, W] moved: rotations, translations, zooms, shears, flips and crops.

Every image has parameters of its own.  The functions without `random_` take them as tensors [B];
the ones with draw them inside.  Sampling is bilinear, with pixel centres where PyTorch has them
for `align_corners=False`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

Range = tuple[float, float]


def affine_matrices(
    size: tuple[int, int], degrees: Tensor, translation: Tensor, zoom: Tensor, shear: Tensor
) -> Tensor:
    """Where the pixels of moved images come from: [B, 2, 3], in the coordinates of `affine_grid`.

    `size` is (H, W).  `degrees` [B] turns clockwise about the centre, `translation` [B, 2] moves
    right and down by pixels, `zoom` [B] enlarges, `shear` [B, 2] slants along x and y by degrees.
    The inverse of translation · rotation · shear · zoom, as in torchvision's `affine`.

    >>> still, right = torch.zeros(1, 2), torch.tensor([[2.0, 0.0]])
    >>> affine_matrices((8, 8), torch.zeros(1), right, torch.ones(1), still).abs().tolist()
    [[[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]]
    """
    height, width = size
    angle, slant = degrees * (math.pi / 180), shear * (math.pi / 180)
    turned = angle - slant[:, 1]
    a, c = turned.cos() / slant[:, 1].cos(), turned.sin() / slant[:, 1].cos()
    b = -a * slant[:, 0].tan() - angle.sin()
    d = -c * slant[:, 0].tan() + angle.cos()
    x, y = translation[:, 0] * (2 / width), translation[:, 1] * (2 / height)
    across, down = height / width, width / height  # a pixel is not as high as wide there
    xx, xy, yx, yy = d / zoom, -b / zoom * across, -c / zoom * down, a / zoom
    rows = [xx, xy, -(xx * x + xy * y), yx, yy, -(yx * x + yy * y)]
    return torch.stack(rows, 1).reshape(-1, 2, 3)


def warp(
    images: Tensor,
    matrices: Tensor,
    size: tuple[int, int] | None = None,
    outside: str = "zeros",
) -> Tensor:
    """Images [B, C, H, W] sampled where `matrices` [B, 2, 3] say, at `size` or their own.

    `outside` of them is what `grid_sample` knows: "zeros", "border" or "reflection".

    >>> images = torch.arange(4.0).reshape(1, 1, 2, 2)
    >>> warp(images, torch.tensor([[[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])).tolist()
    [[[[1.0, 0.0], [3.0, 2.0]]]]
    """
    count, channels = images.shape[:2]
    shape = [count, channels, *(size or images.shape[2:])]
    grid = F.affine_grid(matrices, shape, align_corners=False)
    return F.grid_sample(images, grid, "bilinear", outside, align_corners=False)


def random_affine(
    images: Tensor,
    degrees: float = 0.0,
    translation: float = 0.0,
    zoom: Range = (1.0, 1.0),
    shear: float = 0.0,
    outside: str = "zeros",
) -> Tensor:
    """Each image turned, moved, enlarged and slanted at random.

    Angles in [-degrees, degrees], translations up to that fraction of width and height, zooms in
    their range, slants along x in [-shear, shear] degrees; all uniform, as in torchvision's
    `RandomAffine` (which rounds translations to whole pixels).  `outside` is that of `warp`.

    >>> random_affine(torch.ones(2, 3, 8, 8), degrees=15, zoom=(0.9, 1.1)).shape
    torch.Size([2, 3, 8, 8])
    """
    count, _, height, width = images.shape
    u = torch.rand(count, 5, dtype=images.dtype)
    spread = torch.tensor([translation * width, translation * height], dtype=images.dtype)
    slant = (2 * u[:, 4] - 1) * shear
    matrices = affine_matrices(
        (height, width),
        degrees=(2 * u[:, 0] - 1) * degrees,
        translation=(2 * u[:, 1:3] - 1) * spread,
        zoom=zoom[0] + u[:, 3] * (zoom[1] - zoom[0]),
        shear=torch.stack([slant, torch.zeros_like(slant)], 1),
    )
    return warp(images, matrices, outside=outside)


def flip(images: Tensor, chosen: Tensor, axis: int = -1) -> Tensor:
    """The chosen images [B], as booleans, mirrored left to right, or top to bottom with axis -2.

    >>> flip(torch.tensor([[[[1.0, 2.0]]], [[[3.0, 4.0]]]]), torch.tensor([True, False])).tolist()
    [[[[2.0, 1.0]]], [[[3.0, 4.0]]]]
    """
    return torch.where(chosen[:, None, None, None], images.flip(axis), images)


def random_flip(images: Tensor, probability: float = 0.5, axis: int = -1) -> Tensor:
    """Each image mirrored left to right, or top to bottom with axis -2, with this probability.

    >>> random_flip(torch.tensor([[[[1.0, 2.0]]]]), probability=1.0).tolist()
    [[[[2.0, 1.0]]]]
    """
    return flip(images, torch.rand(len(images)) < probability, axis)


def crop(images: Tensor, corners: Tensor, size: tuple[int, int]) -> Tensor:
    """The pixels of each image from its corner on, in whole pixels.

    `corners` is [B, 2], int64: top and left, such that the crop lies inside of the image.

    >>> crop(torch.arange(9.0).reshape(1, 1, 3, 3), torch.tensor([[1, 0]]), size=(2, 2)).tolist()
    [[[[3.0, 4.0], [6.0, 7.0]]]]
    """
    rows = corners[:, :1] + torch.arange(size[0])
    columns = corners[:, 1:] + torch.arange(size[1])
    count, channels, _, width = images.shape
    high = images.gather(2, rows[:, None, :, None].expand(count, channels, size[0], width))
    return high.gather(3, columns[:, None, None, :].expand(count, channels, *size))


def random_crop(
    images: Tensor, padding: int = 4, size: tuple[int, int] | None = None, mode: str = "constant"
) -> Tensor:
    """A random place of each padded image, at `size` or the image's own.

    Every whole place is as likely, as in torchvision's `RandomCrop`.  `mode` is that of
    `torch.nn.functional.pad`: "constant" (zeros), "reflect" or "replicate".

    >>> random_crop(torch.ones(2, 3, 8, 8), padding=2).shape
    torch.Size([2, 3, 8, 8])
    """
    height, width = size or images.shape[2:]
    padded = F.pad(images, [padding] * 4, mode) if padding else images
    count, _, rows, columns = padded.shape
    if height > rows or width > columns:
        raise ValueError(f"a crop of {height}x{width} does not fit into {rows}x{columns} pixels")
    places = [torch.randint(n, (count,)) for n in (rows - height + 1, columns - width + 1)]
    return crop(padded, torch.stack(places, 1), (height, width))


def resized_crop(images: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """A box of each image at `size`.

    `boxes` is [B, 4]: top, left, height and width in pixels, not necessarily whole.  Bilinear
    without smoothing; at its border a box sees the pixels beside it.

    >>> images = torch.arange(16.0).reshape(1, 1, 4, 4)
    >>> resized_crop(images, torch.tensor([[1.0, 2.0, 2.0, 2.0]]), size=(2, 2)).tolist()
    [[[[6.0, 7.0], [10.0, 11.0]]]]
    """
    height, width = images.shape[2:]
    top, left, rows, columns = boxes.unbind(1)
    zero = torch.zeros_like(top)
    x = (2 * left + columns) / width - 1
    y = (2 * top + rows) / height - 1
    matrices = torch.stack([columns / width, zero, x, zero, rows / height, y], 1)
    return warp(images, matrices.reshape(-1, 2, 3), size, outside="border")


def random_resized_crop(
    images: Tensor,
    size: tuple[int, int],
    scale: Range = (0.08, 1.0),
    ratio: Range = (3 / 4, 4 / 3),
) -> Tensor:
    """A random box of each image at `size`.

    The area is uniform in `scale` of the image, width over height log-uniform in `ratio`, the
    place uniform (C. Szegedy et al., Going deeper with convolutions, 2014).  A box that is too
    high or wide is cut to the image, where torchvision draws again.

    >>> random_resized_crop(torch.ones(2, 3, 16, 16), size=(8, 8)).shape
    torch.Size([2, 3, 8, 8])
    """
    boxes = random_boxes(images, scale, ratio)
    return resized_crop(images, boxes, size)


def random_boxes(images: Tensor, scale: Range, ratio: Range) -> Tensor:
    """Boxes [B, 4] inside the images, drawn as `random_resized_crop` says.

    >>> random_boxes(torch.ones(1, 3, 8, 8), scale=(1.0, 1.0), ratio=(1.0, 1.0)).tolist()
    [[0.0, 0.0, 8.0, 8.0]]
    """
    count, _, height, width = images.shape
    u = torch.rand(count, 4, dtype=images.dtype)
    area = (scale[0] + u[:, 0] * (scale[1] - scale[0])) * (height * width)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = (low + u[:, 1] * (high - low)).exp()
    rows, columns = (
        (area / aspect).sqrt().clamp(max=height),
        (area * aspect).sqrt().clamp(max=width),
    )
    return torch.stack([u[:, 2] * (height - rows), u[:, 3] * (width - columns), rows, columns], 1)
