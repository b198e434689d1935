"""Pairs of images mixed together, with their labels: mixup and CutMix.

Each image [B, C, H, W] is mixed with the one before it in the batch, the first with the last; a
batch of one stays as it is.  Labels are probabilities [B, K], as one-hot vectors are.  Every image
has a share of its own, where the papers draw one for the batch.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hearth.functions.corruption import inside


class Mixed(NamedTuple):
    """Images [B, C, H, W] and labels [B, K]."""

    images: Tensor
    labels: Tensor


def symmetric_beta(like: Tensor, alpha: float) -> Tensor:
    """One draw of Beta(alpha, alpha) for each element of `like`, from uniform numbers.

    Without rejection, so with the same operations for every draw: X of Beta(a + 1, a + 1) is
    (1 + R cos 2πV) / 2 with R² = 1 - U^(2 / (2a + 1)) (G. Ulrich 1984), and as a Gamma variable
    of shape a is one of shape a + 1 times U^(1/a), the odds X / (1 - X) times (U / V)^(1/a) are
    those of Beta(a, a) (L. Devroye, Non-uniform random variate generation, 1986, IX.4).

    >>> symmetric_beta(torch.zeros(2, 3), alpha=0.2).shape
    torch.Size([2, 3])
    """
    logs = [torch.log1p(-torch.rand_like(like)) for _ in range(3)]
    radius = (-torch.expm1(logs[0] * (2 / (2 * alpha + 1)))).sqrt()
    projected = radius * torch.cos(2 * math.pi * torch.rand_like(like))
    odds = torch.log1p(projected) - torch.log1p(-projected)
    return torch.sigmoid(odds + (logs[1] - logs[2]) / alpha)


def one_hot(images: Tensor, labels: Tensor, classes: int) -> Mixed:
    """The images as they are, and their labels [B] as probabilities [B, classes] to be mixed.

    >>> one_hot(torch.ones(2, 3, 4, 4), torch.tensor([0, 2]), classes=3).labels.tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    chosen = labels[:, None] == torch.arange(classes)
    return Mixed(images, chosen.to(images.dtype))


def mix(images: Tensor, labels: Tensor, share: Tensor) -> Mixed:
    """`share` [B] of each image and of its labels, the rest from its partner.

    >>> images = torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1)
    >>> mixed = mix(images, torch.eye(2), torch.tensor([0.75, 1.0]))
    >>> mixed.images.flatten().tolist(), mixed.labels.tolist()
    ([1.5, 3.0], [[0.75, 0.25], [0.0, 1.0]])
    """
    kept = share[:, None, None, None]
    mixed = kept * images + (1 - kept) * images.roll(1, 0)
    return Mixed(mixed, _mixed_labels(labels, share))


def mixup(images: Tensor, labels: Tensor, alpha: float = 0.2) -> Mixed:
    """`mix` with shares of Beta(alpha, alpha).

    H. Zhang et al., mixup: beyond empirical risk minimization, 2017.

    >>> mixup(torch.ones(2, 3, 4, 4), torch.eye(2)).labels.sum(1).tolist()
    [1.0, 1.0]
    """
    return mix(images, labels, symmetric_beta(images[:, 0, 0, 0], alpha))


def cut(images: Tensor, labels: Tensor, boxes: Tensor) -> Mixed:
    """Each image with a box of its partner in it; labels by the area that stays.

    `boxes` is [B, 4]: top, left, height and width in pixels, as for `erase`; what lies outside of
    the image does not count.

    >>> images = torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1).expand(2, 1, 2, 2)
    >>> mixed = cut(images, torch.eye(2), torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(2, 4))
    >>> mixed.images[0].tolist(), mixed.labels[0].tolist()
    ([[[3.0, 1.0], [1.0, 1.0]]], [0.75, 0.25])
    """
    replaced = inside(images, boxes)
    mixed = torch.where(replaced[:, None], images.roll(1, 0), images)
    share = 1 - replaced.to(labels.dtype).mean((1, 2))
    return Mixed(mixed, _mixed_labels(labels, share))


def cutmix(images: Tensor, labels: Tensor, alpha: float = 1.0) -> Mixed:
    """`cut` with a box whose area is 1 - λ of the image, λ of Beta(alpha, alpha).

    The box is as high for its width as the image, its centre a uniform pixel; its edges are moved
    to whole pixels, and the labels follow the area that is left in the image.

    S. Yun et al., CutMix: regularization strategy to train strong classifiers, 2019.

    >>> cutmix(torch.ones(2, 3, 4, 4), torch.eye(2)).labels.sum(1).tolist()
    [1.0, 1.0]
    """
    height, width = images.shape[2:]
    side = (1 - symmetric_beta(images[:, 0, 0, 0], alpha)).sqrt()
    u = torch.rand(len(images), 2, dtype=images.dtype)
    edges = []
    for extent, place in ((height, u[:, 0]), (width, u[:, 1])):
        half = (side * (extent / 2)).floor()
        centre = (place * extent).floor()
        edges.append((centre - half, 2 * half))
    (top, rows), (left, columns) = edges
    return cut(images, labels, torch.stack([top, left, rows, columns], 1))


def _mixed_labels(labels: Tensor, share: Tensor) -> Tensor:
    return share[:, None] * labels + (1 - share[:, None]) * labels.roll(1, 0)
