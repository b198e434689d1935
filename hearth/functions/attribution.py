"""What a classifier looks at: saliency, guided backpropagation, integrated gradients, Grad-CAM,
occlusion; and images that excite it most.

Each function here takes a model (and perhaps one of its layers) and returns a function of images
[B, C, H, W] and classes [B] that can be compiled:

    look = grad_cam(model.eval(), model.features)
    hearth.compile_function(look, (images, classes), model=model)

With `model=` its weights are state of the bundle, so that those trained in a browser can be loaded
into it.  The model returns one row of scores per image, [B, classes], and must be in eval mode: in
training mode BatchNorm would mix the images of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Attribution = Callable[[Tensor, Tensor], Tensor]
_RELUS = frozenset((F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_))


def saliency(model: nn.Module) -> Attribution:
    """The largest magnitude, over the channels, of the gradient of the class score: [B, H, W].

    K. Simonyan, A. Vedaldi and A. Zisserman, Deep inside convolutional networks, 2013.

    >>> look = saliency(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2)).eval())
    >>> look(torch.rand(5, 3, 2, 2), torch.zeros(5, dtype=torch.long)).shape
    torch.Size([5, 2, 2])
    """

    def saliency_map(images: Tensor, classes: Tensor) -> Tensor:
        return _input_gradient(model, images, classes).abs().amax(1)

    return saliency_map


def guided_backpropagation(model: nn.Module) -> Attribution:
    """The gradient [B, C, H, W] of the class score, of which every ReLU passes only what is
    positive.

    ReLUs are modules, `F.relu` and `torch.relu`, wherever the model calls them.
    J. T. Springenberg et al., Striving for simplicity: the all convolutional net, 2014.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2), torch.nn.ReLU())
    >>> look = guided_backpropagation(net.eval())
    >>> look(torch.rand(5, 3, 2, 2), torch.zeros(5, dtype=torch.long)).shape
    torch.Size([5, 3, 2, 2])
    """

    def guided_gradient(images: Tensor, classes: Tensor) -> Tensor:
        with _GuidedReLU():
            return _input_gradient(model, images, classes)

    return guided_gradient


def integrated_gradients(model: nn.Module, steps: int = 16) -> Attribution:
    """The share of each element [B, C, H, W] in the class score, beyond that of a black image.

    The gradient, averaged over `steps` points in the middle of equal parts of the way from zero to
    the image, times the image: the shares add up to the difference of the scores, but for the error
    of that average.  All points of all images go through the model as one batch.
    M. Sundararajan, A. Taly and Q. Yan, Axiomatic attribution for deep networks, 2017.

    >>> look = integrated_gradients(torch.nn.Flatten().eval())
    >>> look(torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([1])).tolist()
    [[[[0.0, 2.0]]]]
    """

    def integrated_gradient(images: Tensor, classes: Tensor) -> Tensor:
        count, *shape = images.shape
        way = ((torch.arange(steps) + 0.5) / steps).to(images.dtype).reshape(1, steps, 1, 1, 1)
        points = (images[:, None] * way).reshape(count * steps, *shape)
        repeated = classes[:, None].expand(count, steps).reshape(count * steps)
        gradients = _input_gradient(model, points, repeated)
        return images * gradients.reshape(count, steps, *shape).mean(1)

    return integrated_gradient


def grad_cam(model: nn.Module, layer: nn.Module) -> Attribution:
    """Where the layer speaks for the class: [B, H, W], at least zero, resized to the images.

    The layer's channels [B, C, h, w] are weighted with the means of their gradients and added;
    what is negative becomes zero.  The map is not normalised: it is in units of the class score.
    R. R. Selvaraju et al., Grad-CAM: visual explanations from deep networks, 2016.

    >>> convolution = torch.nn.Conv2d(3, 4, 3)
    >>> model = torch.nn.Sequential(convolution, torch.nn.Flatten(), torch.nn.Linear(144, 2)).eval()
    >>> look = grad_cam(model, convolution)
    >>> look(torch.rand(5, 3, 8, 8), torch.zeros(5, dtype=torch.long)).shape
    torch.Size([5, 8, 8])
    """

    def class_activation_map(images: Tensor, classes: Tensor) -> Tensor:
        with torch.enable_grad(), _output_of(layer) as outputs:
            # The weights may be frozen; the layer's output must have a gradient all the same.
            score = _class_scores(model, images.detach().requires_grad_(), classes).sum()
            (activations,) = outputs
            (gradient,) = torch.autograd.grad(score, [activations])
        weights = gradient.mean((2, 3), keepdim=True)
        coarse = (weights * activations.detach()).sum(1, keepdim=True).relu()
        size = (images.shape[2], images.shape[3])
        return F.interpolate(coarse, size, mode="bilinear", align_corners=False)[:, 0]

    return class_activation_map


def occlusion(
    model: nn.Module, window: tuple[int, int], stride: tuple[int, int], value: float = 0.0
) -> Attribution:
    """How much the class score falls when a window over a pixel is set to `value`: [B, H, W].

    Windows of (rows, columns) start at every `stride`, which is no longer than they are, and the
    last ones are cut at the border, so that each pixel is seen; a pixel gets the mean of the
    windows over it.  All windows of all images go through the model as one batch.
    M. D. Zeiler and R. Fergus, Visualizing and understanding convolutional networks, 2013.

    >>> look = occlusion(torch.nn.Flatten().eval(), window=(1, 1), stride=(1, 1))
    >>> look(torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([1])).tolist()
    [[[0.0, 2.0]]]
    """
    if stride[0] > window[0] or stride[1] > window[1]:
        raise ValueError(f"strides {stride} beyond windows of {window} leave pixels unseen")

    def occlusion_map(images: Tensor, classes: Tensor) -> Tensor:
        count, channels, height, width = images.shape
        windows = _windows((height, width), window, stride)
        positions = len(windows)
        hidden = torch.where(windows[:, None], value, images[:, None])
        flat = hidden.reshape(count * positions, channels, height, width)
        repeated = classes[:, None].expand(count, positions).reshape(count * positions)
        with torch.no_grad():
            scores = _class_scores(model, flat, repeated).reshape(count, positions)
            falls = _class_scores(model, images, classes)[:, None] - scores
        weights = windows.reshape(positions, height * width).to(images.dtype)
        return (falls @ weights / weights.sum(0)).reshape(count, height, width)

    return occlusion_map


class Excitation(NamedTuple):
    """The next images [B, C, H, W], and the activations [B] before the step."""

    images: Tensor
    activations: Tensor


def activation_maximization(
    model: nn.Module, layer: nn.Module | None = None, decay: float = 0.0
) -> Callable[[Tensor, Tensor, Tensor], Excitation]:
    """A step (images, channels [B], rate) that makes each image excite one channel more.

    The activation is that of the layer's channel, its mean over the positions of a feature map, or
    of the model's score without a layer.  Each image goes `rate` along its normalised gradient and
    shrinks by `rate * decay`; where the gradient is zero only that.
    D. Erhan et al., Visualizing higher-layer features of a deep network, 2009.

    >>> step = activation_maximization(torch.nn.Flatten().eval())
    >>> step(torch.zeros(1, 1, 1, 2), torch.tensor([1]), torch.tensor(0.5)).images.tolist()
    [[[[0.0, 0.5]]]]
    """
    watched = model if layer is None else layer

    def excited(images: Tensor, channels: Tensor, rate: Tensor) -> Excitation:
        with torch.enable_grad(), _output_of(watched) as outputs:
            leaf = images.detach().requires_grad_()
            model(leaf)
            means = outputs[0].flatten(2).mean(2) if outputs[0].dim() > 2 else outputs[0]
            activations = means.gather(1, channels[:, None])[:, 0]
            (gradient,) = torch.autograd.grad(activations.sum(), [leaf])
        length = gradient.square().sum((1, 2, 3), keepdim=True).sqrt()
        direction = gradient / length.clamp(min=torch.finfo(length.dtype).tiny)
        moved = images + rate * (direction - decay * images)
        return Excitation(moved, activations.detach())

    return excited


def _class_scores(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    scores: Tensor = model(images)
    return scores.gather(1, classes[:, None])[:, 0]


def _input_gradient(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        score = _class_scores(model, leaf, classes).sum()  # each image has its own term
        return torch.autograd.grad(score, [leaf])[0]


def _windows(size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """Which pixels each window hides: [windows, H, W] booleans."""
    lines = []
    for extent, length, step in zip(size, window, stride, strict=True):
        starts = torch.arange(0, max(extent - length, 0) + step, step)[:, None]
        index = torch.arange(extent)
        lines.append((index >= starts) & (index < starts + length))
    rows, columns = lines
    return (rows[:, None, :, None] & columns[None, :, None, :]).reshape(-1, *size)


@contextmanager
def _output_of(layer: nn.Module) -> Iterator[list[Tensor]]:
    """What the layer returns meanwhile, call by call."""
    outputs: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _module, _given, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


class _GuidedReLU(TorchFunctionMode):
    """The gradient of every ReLU's output is cut at zero before it goes on."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _RELUS and result.requires_grad:
            result.register_hook(lambda gradient: gradient.clamp(min=0))
        return result
