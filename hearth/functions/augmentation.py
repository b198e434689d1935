"""Transforms of image batches put together: one after another, some of them, one of several.

A transform is a function of one batch of images, `transform(images)`, or of a whole batch,
`transform(images, *targets)`, which also returns both; which of them it is, its signature says
(`takes_targets`).  Those of this package are its `random_` functions, `color_jitter`,
`gaussian_noise`, `mixup` and `cutmix`; set their strength with `functools.partial`.  What is here
is again a transform of a whole batch.  Everything is chosen for each sample by itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

Transform = Callable[..., Any]
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def takes_targets(transform: Transform) -> bool:
    """Whether a transform takes the whole batch: two tensors or more must, or any number may, be
    given to it.  Built-in functions, whose parameters Python does not know, take images.

    >>> takes_targets(lambda images, strength=0.5: images), takes_targets(lambda x, y: (x, y))
    (False, True)
    """
    called = transform.forward if isinstance(transform, nn.Module) else transform
    try:
        parameters = list(inspect.signature(called).parameters.values())
    except ValueError:
        return False
    needed = [p for p in parameters if p.kind in _POSITIONAL and p.default is p.empty]
    return len(needed) > 1 or any(p.kind is p.VAR_POSITIONAL for p in parameters)


def apply(transform: Transform, images: Tensor, *targets: Tensor) -> tuple[Tensor, ...]:
    """What a transform of either kind makes of a batch: images and targets.

    >>> [t.tolist() for t in apply(torch.nn.ReLU(), torch.tensor([-1.0]), torch.tensor([3]))]
    [[0.0], [3]]
    """
    if takes_targets(transform):
        result = transform(images, *targets)
        return (result,) if isinstance(result, Tensor) else tuple(result)
    return (transform(images), *targets)


@dataclass(frozen=True)
class Compose:
    """Transforms one after another.

    >>> double = Compose([lambda images: images + 1, lambda images: images * 2])
    >>> double(torch.zeros(1, 1, 1, 1)).item()
    2.0
    """

    transforms: Sequence[Transform]

    def __call__(self, images: Tensor, *targets: Tensor) -> Any:
        for transform in self.transforms:
            images, *targets = apply(transform, images, *targets)  # type: ignore[assignment]
        return (images, *targets) if targets else images


@dataclass(frozen=True)
class RandomApply:
    """A transform of each sample with this probability; the shapes must stay.

    It is computed for every sample, and then chosen.

    >>> negative = RandomApply(torch.neg, probability=1.0)
    >>> negative(torch.ones(1, 1, 1, 1)).item()
    -1.0
    """

    transform: Transform
    probability: float = 0.5

    def __call__(self, images: Tensor, *targets: Tensor) -> Any:
        chosen = torch.rand(len(images)) < self.probability
        given, changed = (images, *targets), apply(self.transform, images, *targets)
        result = [_chosen(chosen, new, old) for new, old in zip(changed, given, strict=True)]
        return tuple(result) if targets else result[0]


@dataclass(frozen=True)
class RandomChoice:
    """One of several transforms for each sample; `weights`, if given, are relative.

    All of them are computed for every sample, and must give equal shapes.

    >>> either = RandomChoice([torch.neg, torch.zeros_like], weights=[1, 0])
    >>> either(torch.ones(1, 1, 1, 1)).item()
    -1.0
    """

    transforms: Sequence[Transform]
    weights: Sequence[float] | None = None

    def __call__(self, images: Tensor, *targets: Tensor) -> Any:
        limits = list(accumulate(self.weights or [1.0] * len(self.transforms)))
        place = torch.rand(len(images)) * limits[-1]
        result = apply(self.transforms[0], images, *targets)
        for transform, limit in zip(self.transforms[1:], limits, strict=False):
            other = apply(transform, images, *targets)
            pairs = zip(other, result, strict=True)
            result = tuple(_chosen(place >= limit, new, old) for new, old in pairs)
        return result if targets else result[0]


class Normalize(nn.Module):
    """The first module of a model: (x - mean) / std for each channel of images [B, C, H, W].

    Whole numbers are taken as pixels of 0 to 255, and floats as they are, from 0 to 1: the model
    then takes bytes in evaluation, and in training what an augmentation has made of them.  `mean`
    and `std` are buffers, so that they go wherever the weights go.

    >>> normalize = Normalize([0.5], [0.25])
    >>> normalize(torch.full((1, 1, 1, 1), 0.75)).item()
    1.0
    >>> normalize(torch.full((1, 1, 1, 1), 255, dtype=torch.int32)).item()
    2.0
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        return (from_bytes(images) - self.mean) / self.std


def from_bytes(images: Tensor) -> Tensor:
    """Whole numbers of 0 to 255 as floats of 0 to 1; floats stay.

    >>> from_bytes(torch.tensor([0, 51])).tolist(), from_bytes(torch.tensor([0.5])).tolist()
    ([0.0, 0.20000000298023224], [0.5])
    """
    if images.is_floating_point():
        return images
    return images.to(torch.get_default_dtype()) / 255


def _chosen(chosen: Tensor, new: Tensor, old: Tensor) -> Tensor:
    if new is old:
        return old
    if new.shape != old.shape:
        raise ValueError(
            f"a transform made {list(new.shape)} of {list(old.shape)}: one that is chosen for each "
            "sample must keep shapes (make labels one_hot before mixing)"
        )
    return torch.where(chosen.reshape(-1, *[1] * (old.dim() - 1)), new, old)
