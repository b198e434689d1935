"""Pipelines against an independent reference: NumPy in float64, sample by sample.

The reference draws the Philox numbers of spec/manifest.md by itself and follows torchvision's
documentation and source of transforms.v2 (0.19 and later), which cannot be installed beside this
PyTorch:

- RandomCrop: pad, then a corner uniform among all whole places (`RandomCrop.make_params`);
- RandomHorizontalFlip, RandomVerticalFlip: with probability p (`_RandomApplyTransform`);
- ColorJitter: brightness, contrast, saturation and hue, factors uniform in [max(0, 1 - x), 1 + x],
  each result clamped (`_color.py`: `_blend`, `adjust_contrast` with the mean of the gray image);
  our order is the one of its arguments, torchvision draws an order for the batch;
- RandomRotation, RandomAffine: bilinear, zeros outside, about the centre, angles clockwise for
  `affine` (`_geometry.py`: `_get_inverse_affine_matrix`);
- RandomErasing: a box set to a value (`RandomErasing.make_params`).
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch import nn

from hearth.capture.random import replay_random
from hearth.functions.augmentation import (
    Compose,
    Normalize,
    RandomApply,
    RandomChoice,
    apply,
    from_bytes,
    takes_targets,
)
from hearth.functions.color import color_jitter
from hearth.functions.corruption import random_erasing
from hearth.functions.geometry import crop, random_affine, random_crop, random_flip
from hearth.functions.mixing import cutmix, mixup, one_hot
from hearth.ir.philox import random_words
from tests.functions.devices import SEED, assert_device_agrees

Draw = Callable[..., np.ndarray]
HEIGHT, WIDTH = 6, 9


def images_of(batch: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(batch)
    return torch.rand(batch, 3, HEIGHT, WIDTH, generator=generator, dtype=torch.float64)


def draws() -> Draw:
    """Uniform numbers of the seed's streams, one stream after another, of step 0."""
    streams = count()

    def draw(*shape: int) -> np.ndarray:
        key = np.uint32(SEED & 0xFFFFFFFF), np.uint32(SEED >> 32)
        index = np.arange(math.prod(shape), dtype=np.uint32)
        words = random_words(*key, np.uint32(0), np.uint32(next(streams)), index)
        return (words >> 8).astype(np.float64).reshape(shape) / 2**24

    return draw


def jittered(image: np.ndarray, u: np.ndarray, strengths: tuple[float, ...], hue: float):
    gray = lambda x: 0.2989 * x[0] + 0.587 * x[1] + 0.114 * x[2]  # noqa: E731
    others = (np.zeros_like, lambda x: gray(x).mean(), gray)
    for k, (other, strength) in enumerate(zip(others, strengths, strict=True)):
        factor = max(0, 1 - strength) + u[k] * (1 + strength - max(0, 1 - strength))
        image = np.clip(factor * image + (1 - factor) * other(image), 0, 1)
    turn = (2 * u[3] - 1) * hue
    pixels = image.reshape(3, -1).T
    hsv = [colorsys.rgb_to_hsv(*pixel) for pixel in pixels]
    turned = [colorsys.hsv_to_rgb((h + turn) % 1, s, v) for h, s, v in hsv]
    return np.array(turned).T.reshape(image.shape)


def turned(image: np.ndarray, degrees: float) -> np.ndarray:
    a = math.radians(degrees)
    rotation = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    centre = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
    source = (np.stack([x, y], -1) - centre) @ rotation + centre  # the inverse is the transpose
    where = source[..., ::-1].transpose(2, 0, 1)
    return np.stack([map_coordinates(c, where, order=1, mode="grid-constant") for c in image])


def cropped_and_flipped(images: np.ndarray) -> np.ndarray:
    draw, batch = draws(), len(images)
    tops, lefts = np.floor(draw(batch) * 5), np.floor(draw(batch) * 5)  # 2 · padding + 1 places
    across, down = draw(batch) < 0.5, draw(batch) < 0.3
    padded = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)))
    result = []
    for k, image in enumerate(padded):
        y, x = int(tops[k]), int(lefts[k])
        part = image[:, y : y + HEIGHT, x : x + WIDTH]
        part = part[:, :, ::-1] if across[k] else part
        result.append(part[:, ::-1] if down[k] else part)
    return np.stack(result)


def turned_or_jittered(images: np.ndarray) -> np.ndarray:
    draw, batch = draws(), len(images)
    applied, place = draw(batch) < 0.75, draw(batch) * 3
    u_turn, u_jitter = draw(batch, 5), draw(batch, 4)
    result = images.copy()
    for k in np.flatnonzero(applied):
        if place[k] < 1:
            result[k] = turned(images[k], (2 * u_turn[k, 0] - 1) * 40)
        else:
            result[k] = jittered(images[k], u_jitter[k], (0.4, 0.7, 1.5), 0.3)
    return result


def erased(images: np.ndarray) -> np.ndarray:
    draw, batch = draws(), len(images)
    u, chosen = draw(batch, 4), draw(batch) < 0.6
    result = images.copy()
    for k in np.flatnonzero(chosen):
        area = (0.1 + u[k, 0] * 0.3) * HEIGHT * WIDTH
        aspect = math.exp(math.log(0.5) + u[k, 1] * (math.log(2) - math.log(0.5)))
        rows, columns = min(math.sqrt(area / aspect), HEIGHT), min(math.sqrt(area * aspect), WIDTH)
        top, left = round(u[k, 2] * (HEIGHT - rows)), round(u[k, 3] * (WIDTH - columns))
        result[k, :, top : top + round(rows), left : left + round(columns)] = 0.25
    return result


PIPELINES = {
    "crop and flips": (
        Compose([partial(random_crop, padding=2), random_flip,
                 partial(random_flip, probability=0.3, axis=-2)]),
        cropped_and_flipped,
    ),
    "some turned, others jittered": (
        RandomApply(
            RandomChoice(
                [partial(random_affine, degrees=40),
                 partial(color_jitter, brightness=0.4, contrast=0.7, saturation=1.5, hue=0.3)],
                weights=[1, 2],
            ),
            probability=0.75,
        ),
        turned_or_jittered,
    ),
    "erasing": (
        partial(random_erasing, probability=0.6, scale=(0.1, 0.4), ratio=(0.5, 2.0), value=0.25),
        erased,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_is_what_the_reference_computes(name: str) -> None:
    pipeline, reference = PIPELINES[name]
    images = images_of(40)
    with replay_random(SEED, 0):
        ours = pipeline(images)
    np.testing.assert_allclose(ours, reference(images.numpy()), atol=1e-6)


@pytest.mark.parametrize("name", PIPELINES)
def test_a_compiled_pipeline_draws_and_computes_the_same(
    device: str, tmp_path: Path, name: str
) -> None:
    assert_device_agrees(PIPELINES[name][0], lambda b: [images_of(b)], device, tmp_path)


@pytest.fixture
def many() -> torch.Tensor:
    torch.manual_seed(3)
    return torch.arange(1.0, 26.0).reshape(1, 1, 5, 5).expand(4000, 1, 5, 5)


def assert_share(ours: float, wanted: float, samples: int = 4000) -> None:
    assert abs(ours - wanted) < 4 * (wanted * (1 - wanted) / samples) ** 0.5


def test_every_place_of_a_crop_is_as_likely(many: torch.Tensor) -> None:
    corners = random_crop(many, padding=0, size=(3, 4))[:, 0, 0, 0]
    wanted = {1.0, 2.0, 6.0, 7.0, 11.0, 12.0}
    assert set(corners.tolist()) == wanted
    for corner in wanted:
        assert_share((corners == corner).double().mean().item(), 1 / 6)
    assert random_crop(many, padding=1, mode="replicate").min() == 1
    assert random_crop(many, padding=1).min() == 0


def test_a_crop_is_taken_at_its_corner_and_one_too_large_is_refused(many: torch.Tensor) -> None:
    taken = crop(many[:2], torch.tensor([[0, 1], [2, 3]]), (3, 2))
    assert taken[0, 0].tolist() == [[2, 3], [7, 8], [12, 13]]
    assert taken[1, 0].tolist() == [[14, 15], [19, 20], [24, 25]]
    with pytest.raises(ValueError, match="6x5 does not fit into 5x5"):
        random_crop(many, padding=0, size=(6, 5))


def test_transforms_apply_and_are_chosen_as_often_as_asked(many: torch.Tensor) -> None:
    signs = RandomApply(torch.neg, 0.3)(many)[:, 0, 0, 0]
    assert_share((signs < 0).double().mean().item(), 0.3)
    transforms = [torch.neg, lambda x: x * 10, lambda x: x * 100]
    chosen = RandomChoice(transforms, weights=[1, 4, 5])(many)[:, 0, 0, 0]
    for value, share in ((-1.0, 0.1), (10.0, 0.4), (100.0, 0.5)):
        assert_share((chosen == value).double().mean().item(), share)


def test_a_sample_that_is_chosen_takes_its_labels_along() -> None:
    torch.manual_seed(0)
    labels = torch.arange(400) % 4
    pipeline = Compose([partial(one_hot, classes=4), RandomApply(RandomChoice([mixup, cutmix]))])
    images = labels[:, None, None, None].double().expand(400, 1, 8, 8)
    mixed, soft = pipeline(images, labels)
    stays = (soft == torch.eye(4)[labels]).all(1)
    assert 0.4 < stays.double().mean() < 0.6
    # Each image's mean is the mean of the classes that it is made of, by its labels.
    np.testing.assert_allclose(mixed.mean((1, 2, 3)), soft.double() @ torch.arange(4.0).double(),
                               atol=1e-6)  # fmt: skip


def test_what_takes_targets_is_seen_from_the_signature() -> None:
    assert takes_targets(mixup)
    assert takes_targets(partial(one_hot, classes=3))
    assert takes_targets(Compose([]))
    assert not takes_targets(partial(random_crop, padding=2))
    assert not takes_targets(nn.ReLU())
    assert not takes_targets(torch.neg)
    images, labels = torch.ones(2, 1, 2, 2), torch.tensor([0, 1])
    assert apply(random_flip, images, labels)[1] is labels
    assert Compose([random_flip])(images).shape == images.shape


def test_labels_that_are_mixed_for_some_samples_only_must_be_one_hot_before() -> None:
    mixing = RandomApply(Compose([partial(one_hot, classes=3), mixup]))
    with pytest.raises(ValueError, match=r"made \[2, 3\] of \[2\].*one_hot before"):
        mixing(torch.ones(2, 1, 4, 4), torch.tensor([0, 1]))


def test_bytes_and_floats_are_normalized_to_the_same_numbers() -> None:
    normalize = Normalize([0.5, 0.25], [0.5, 2.0])
    pixels = torch.randint(0, 256, (3, 2, 4, 4), dtype=torch.int32)
    wanted = (pixels.double() / 255 - torch.tensor([[[0.5]], [[0.25]]])) / torch.tensor(
        [[[0.5]], [[2.0]]]
    )
    np.testing.assert_allclose(normalize(pixels), wanted, atol=1e-6)
    assert torch.equal(normalize(from_bytes(pixels)), normalize(pixels))
    assert list(normalize.state_dict()) == ["mean", "std"]
