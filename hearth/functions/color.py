"""Colours of RGB images [B, 3, H, W] in [0, 1]: brightness, contrast, saturation and hue.

The formulas are those of torchvision.transforms.v2 for float tensors; every image has a factor of
its own.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601, as torchvision rounds it


def grayscale(images: Tensor) -> Tensor:
    """[B, 3, H, W] -> [B, 1, H, W].

    >>> grayscale(torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1)).item()
    0.2989000082015991
    """
    red, green, blue = images.unbind(1)
    return (_LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue)[:, None]


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Each image times its factor [B]: 0 is black, 1 the image.

    >>> adjust_brightness(torch.full((1, 3, 1, 1), 0.25), torch.tensor([2.0])).flatten().tolist()
    [0.5, 0.5, 0.5]
    """
    return (images * _each(factor)).clamp(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Each image moved away from its mean gray by its factor [B]: 0 is that gray, 1 the image.

    >>> adjust_contrast(torch.rand(1, 3, 2, 2), torch.tensor([0.0])).std().item() < 1e-6
    True
    """
    return _blend(images, grayscale(images).mean((1, 2, 3), keepdim=True), factor)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Each pixel moved away from its gray by its image's factor [B]: 0 is gray, 1 the image.

    >>> red = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1)
    >>> adjust_saturation(red, torch.tensor([0.5])).mul(100).round().flatten().tolist()
    [65.0, 15.0, 15.0]
    """
    return _blend(images, grayscale(images), factor)


def adjust_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Each image's hue turned by `turn` [B] of the colour circle: 1/3 makes red green.

    >>> red = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1)
    >>> adjust_hue(red, torch.tensor([0.5])).flatten().tolist()
    [0.0, 1.0, 1.0]
    """
    hue, saturation, value = rgb_to_hsv(images).unbind(1)
    turned = torch.remainder(hue + turn[:, None, None], 1.0)
    return hsv_to_rgb(torch.stack([turned, saturation, value], 1))


def rgb_to_hsv(images: Tensor) -> Tensor:
    """[B, 3, H, W] in [0, 1] to hue in [0, 1), saturation and value; gray has hue 0.

    A. R. Smith, Color gamut transform pairs, 1978, as Python's colorsys.

    >>> rgb_to_hsv(torch.tensor([0.0, 0.5, 0.5]).reshape(1, 3, 1, 1)).flatten().tolist()
    [0.5, 1.0, 0.5]
    """
    red, green, blue = images.unbind(1)
    value, least = images.amax(1), images.amin(1)
    spread = value - least
    gray = spread == 0
    saturation = spread / torch.where(gray, 1.0, value)
    r, g, b = ((value - x) / torch.where(gray, 1.0, spread) for x in (red, green, blue))
    sextants = torch.where(
        red == value, b - g, torch.where(green == value, 2.0 + r - b, 4.0 + g - r)
    )
    hue = torch.where(gray, 0.0, torch.remainder(sextants / 6.0 + 1.0, 1.0))
    return torch.stack([hue, saturation, value], 1)


def hsv_to_rgb(images: Tensor) -> Tensor:
    """The inverse of `rgb_to_hsv`; hues turn, 1.25 being 0.25.

    Each channel is v - v s clamp(min(k, 4 - k), 0, 1) with k = (n + 6 h) mod 6 and n = 5, 3, 1:
    the sextants of Smith's formula without a case for each.

    >>> hsv_to_rgb(torch.tensor([0.5, 1.0, 0.5]).reshape(1, 3, 1, 1)).flatten().tolist()
    [0.0, 0.5, 0.5]
    """
    hue, saturation, value = images.unbind(1)
    channels = []
    for n in (5.0, 3.0, 1.0):
        k = torch.remainder(n + 6.0 * hue, 6.0)
        channels.append(value - value * saturation * torch.minimum(k, 4.0 - k).clamp(0, 1))
    return torch.stack(channels, 1)


def color_jitter(
    images: Tensor,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
) -> Tensor:
    """Each image with other colours, in this order (torchvision's `ColorJitter` draws the order).

    The first three factors are uniform in [max(0, 1 - x), 1 + x], the hue turns by a uniform part
    of the circle in [-hue, hue]; `hue` is at most 0.5.

    >>> color_jitter(torch.rand(2, 3, 8, 8), brightness=0.2, hue=0.1).shape
    torch.Size([2, 3, 8, 8])
    """
    u = torch.rand(len(images), 4, dtype=images.dtype)
    adjustments = ((adjust_brightness, brightness), (adjust_contrast, contrast),
                   (adjust_saturation, saturation))  # fmt: skip
    for k, (adjust, strength) in enumerate(adjustments):
        low = max(0.0, 1.0 - strength)
        if strength > 0:
            images = adjust(images, low + u[:, k] * (1.0 + strength - low))
    return adjust_hue(images, (2 * u[:, 3] - 1) * hue) if hue > 0 else images


def _each(factor: Tensor) -> Tensor:
    return factor[:, None, None, None]


def _blend(images: Tensor, others: Tensor, factor: Tensor) -> Tensor:
    share = _each(factor)
    return (share * images + (1.0 - share) * others).clamp(0, 1)
