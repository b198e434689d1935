from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from hearth.functions.attribution import (
    activation_maximization,
    grad_cam,
    guided_backpropagation,
    occlusion,
    saliency,
)
from tests.functions.devices import assert_device_agrees

SIZE = (9, 7)


class Net(nn.Module):
    """Two convolutions with BatchNorm and pooling; the second ReLU is a function."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU())
        self.second = nn.Conv2d(5, 6, 3, stride=2)
        self.last = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(F.relu(self.second(self.first(x))).mean((2, 3)))


@pytest.fixture
def model() -> Net:
    torch.manual_seed(0)
    net = Net()
    net.first[1].running_mean.uniform_(-0.2, 0.2)
    return net.eval()


def images_of(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, 3, *SIZE, generator=generator, dtype=torch.float64)


def classes_of(count: int) -> torch.Tensor:
    return torch.arange(count) * 3 % 4


# ---------------------------------------------------------------- by hand


def layers_of(model: Net, images: torch.Tensor) -> list[torch.Tensor]:
    """Inputs and outputs of the ReLUs, and the scores, in double precision."""
    before = model.first[1](model.first[0](images))
    after = before.clamp(min=0)
    second = model.second(after)
    return [before, after, second, second.clamp(min=0)]


def backwards(model: Net, images: torch.Tensor, classes: torch.Tensor, guided: bool) -> Any:
    """The chain rule written out: gradients of the class score at the images and at `second`."""
    before, _, second, _ = layers_of(model, images)
    g = model.last.weight[classes][:, :, None, None].expand_as(second) / second[0, 0].numel()
    if guided:
        g = g.clamp(min=0)
    at_second = torch.where(second > 0, g, 0.0)
    g = F.conv_transpose2d(
        at_second, model.second.weight, stride=2, output_padding=(0, 0)
    )  # 9×7 -> 4×3 -> 9×7
    if guided:
        g = g.clamp(min=0)
    norm = model.first[1]
    g = torch.where(before > 0, g, 0.0)
    g = g * (norm.weight / (norm.running_var + norm.eps).sqrt())[:, None, None]
    return F.conv_transpose2d(g, model.first[0].weight, padding=1), at_second


def test_saliency_is_the_chain_rule_written_out(model: Net) -> None:
    model.double()
    images, classes = images_of(3), classes_of(3)
    gradient, _ = backwards(model, images, classes, guided=False)
    np.testing.assert_allclose(
        saliency(model)(images, classes), gradient.abs().amax(1).detach(), atol=1e-12
    )


def test_guided_backpropagation_cuts_the_chain_at_every_relu(model: Net) -> None:
    model.double()
    images, classes = images_of(3), classes_of(3)
    gradient, _ = backwards(model, images, classes, guided=True)
    ours = guided_backpropagation(model)(images, classes)
    np.testing.assert_allclose(ours, gradient.detach(), atol=1e-12)
    plain, _ = backwards(model, images, classes, guided=False)
    assert not torch.allclose(ours, plain)


def test_grad_cam_is_the_weighted_sum_of_the_channels(model: Net) -> None:
    model.double()
    images, classes = images_of(3), classes_of(3)
    # At the output of `second` the mean of the gradient is taken before its ReLU.
    _, at_second = backwards(model, images, classes, guided=False)
    second = layers_of(model, images)[2]
    coarse = (at_second.mean((2, 3), keepdim=True) * second).sum(1, keepdim=True).clamp(min=0)
    want = F.interpolate(coarse, SIZE, mode="bilinear")[:, 0].detach()
    ours = grad_cam(model, model.second)(images, classes)
    np.testing.assert_allclose(ours, want, atol=1e-12)
    assert ours.max() > 0
    assert not model.second._forward_hooks  # nothing stays behind


@pytest.mark.parametrize(
    ("window", "stride"), [((3, 2), (2, 2)), ((4, 5), (3, 5)), ((20, 9), (1, 1))]
)
def test_occlusion_hides_window_after_window(
    model: Net, window: tuple[int, int], stride: tuple[int, int]
) -> None:
    model.double()
    images, classes = images_of(2), classes_of(2)
    total, seen = torch.zeros(2, *SIZE).double(), torch.zeros(SIZE).double()
    score = model(images)[torch.arange(2), classes]
    top = 0
    while True:
        left = 0
        while True:
            hidden = images.clone()
            here = (..., slice(top, top + window[0]), slice(left, left + window[1]))
            hidden[here] = 0.5
            fall = score - model(hidden)[torch.arange(2), classes]
            total[here] += fall[:, None, None].detach()
            seen[here] += 1
            if left + window[1] >= SIZE[1]:
                break
            left += stride[1]
        if top + window[0] >= SIZE[0]:
            break
        top += stride[0]
    ours = occlusion(model, window, stride, value=0.5)(images, classes)
    np.testing.assert_allclose(ours, total / seen, atol=1e-12)


def test_windows_that_leave_pixels_unseen_are_refused(model: Net) -> None:
    with pytest.raises(ValueError, match="unseen"):
        occlusion(model, (4, 4), (3, 5))


def test_steps_of_activation_maximization_excite_the_channel(model: Net) -> None:
    model.double()
    images, channels = images_of(3) * 0.1, torch.tensor([0, 2, 5])
    step = activation_maximization(model, model.second)
    rate = torch.tensor(0.05, dtype=torch.float64)
    activations = []
    for _ in range(20):
        images, activation = step(images, channels, rate)
        activations.append(activation)
    assert (torch.stack(activations).diff(dim=0) > 0).all()
    want = layers_of(model, images)[2].mean((2, 3))[torch.arange(3), channels]
    np.testing.assert_allclose(step(images, channels, rate).activations, want.detach(), atol=1e-12)


def test_a_dead_channel_has_a_finite_step_and_weights_shrink_it() -> None:
    dead = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Flatten())
    with torch.no_grad():
        dead[0].bias.fill_(-1e6)
    images = torch.ones(2, 1, 2, 2)
    step = activation_maximization(dead.eval(), decay=0.5)
    moved = step(images, torch.zeros(2, dtype=torch.long), torch.tensor(0.1)).images
    np.testing.assert_allclose(moved, 0.95 * images, rtol=1e-6)


def test_frozen_weights_are_no_obstacle(model: Net) -> None:
    images, classes = images_of(2).float(), classes_of(2)
    look = grad_cam(model, model.second)
    before = look(images, classes)
    model.requires_grad_(False)
    assert torch.equal(look(images, classes), before)


# ---------------------------------------------------------------- compiled


FACTORIES: dict[str, Callable[[Net], Callable[..., Any]]] = {
    "saliency": saliency,
    "guided_backpropagation": guided_backpropagation,
    "grad_cam": lambda model: grad_cam(model, model.second),
    "occlusion": lambda model: occlusion(model, (3, 3), (2, 2)),
}


@pytest.mark.parametrize("name", FACTORIES)
def test_a_compiled_attribution_agrees(name: str, model: Net, device: str, tmp_path: Path) -> None:
    assert_device_agrees(
        FACTORIES[name](model), lambda b: (images_of(b), classes_of(b)), device, tmp_path,
        model=model, tolerance=2.0**-12,
    )  # fmt: skip


@pytest.mark.parametrize("layer", ["second", None])
def test_a_compiled_step_of_activation_maximization_agrees(
    layer: str | None, model: Net, device: str, tmp_path: Path
) -> None:
    step = activation_maximization(model, getattr(model, layer) if layer else None, decay=0.1)
    rate = torch.tensor(0.5, dtype=torch.float64)
    assert_device_agrees(
        step, lambda b: (images_of(b), classes_of(b), rate), device, tmp_path,
        batched=(True, True, False), model=model,
    )  # fmt: skip
