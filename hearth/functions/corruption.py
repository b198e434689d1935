"""Images [B, C, H, W] in [0, 1] made harder to see: noise, and rectangles erased."""

from __future__ import annotations

import torch
from torch import Tensor

from hearth.functions.geometry import Range, random_boxes


def gaussian_noise(images: Tensor, sigma: float = 0.1) -> Tensor:
    """Normal noise of this standard deviation on every value, clamped to [0, 1].

    >>> gaussian_noise(torch.full((1, 3, 2, 2), 0.5), sigma=0.0).unique().tolist()
    [0.5]
    """
    return (images + sigma * torch.randn_like(images)).clamp(0, 1)


def erase(images: Tensor, boxes: Tensor, value: float = 0.0) -> Tensor:
    """The pixels whose index lies in their image's box set to `value`.

    `boxes` is [B, 4]: top, left, height and width; row r is inside where top <= r < top + height.

    >>> erase(torch.ones(1, 1, 2, 3), torch.tensor([[0.0, 1.0, 1.0, 2.0]])).tolist()
    [[[[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]]]
    """
    return torch.where(inside(images, boxes)[:, None], value, images)


def inside(images: Tensor, boxes: Tensor) -> Tensor:
    """Which pixels [B, H, W] of the images lie in the boxes of `erase`.

    >>> inside(torch.ones(1, 1, 1, 3), torch.tensor([[0.0, 1.0, 1.0, 1.0]])).tolist()
    [[[False, True, False]]]
    """
    top, left, rows, columns = (edge[:, None] for edge in boxes.unbind(1))
    y = torch.arange(images.shape[2], dtype=boxes.dtype)
    x = torch.arange(images.shape[3], dtype=boxes.dtype)
    vertical = (y >= top) & (y < top + rows)
    horizontal = (x >= left) & (x < left + columns)
    return vertical[:, :, None] & horizontal[:, None]


def random_erasing(
    images: Tensor,
    probability: float = 0.5,
    scale: Range = (0.02, 0.33),
    ratio: Range = (0.3, 3.3),
    value: float = 0.0,
) -> Tensor:
    """A random box of each image, with this probability, set to `value`.

    The boxes are those of `random_boxes`, moved to whole pixels; one too large is cut to the image
    (the paper draws again).  Z. Zhong et al., Random erasing data augmentation, 2017.

    >>> random_erasing(torch.ones(1, 1, 4, 4), 1.0, scale=(1.0, 1.0), ratio=(1.0, 1.0)).sum().item()
    0.0
    """
    boxes = random_boxes(images, scale, ratio).round()
    chosen = torch.rand(len(images)) < probability
    return torch.where(chosen[:, None, None, None], erase(images, boxes, value), images)
