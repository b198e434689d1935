"""What a model looks at, as programs beside its training: `hearth.explain`.

The methods are functions of `hearth.functions.attribution`; here they get examples, a layer and the
model in eval mode, so that a bundle that trains the model explains it with the weights of now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import nn

from hearth.errors import InvalidInputError
from hearth.functions.attribution import (
    activation_maximization,
    grad_cam,
    guided_backpropagation,
    integrated_gradients,
    occlusion,
    saliency,
)
from hearth.steps.function import Function
from hearth.steps.train_step import untouched

METHODS: Final = (
    "saliency", "guided_backpropagation", "grad_cam", "integrated_gradients", "occlusion",
    "activation_maximization",
)  # fmt: skip
_NEED_LAYER: Final = ("grad_cam",)
# They run the model on many variants of an image at once: one image at a time bounds the memory.
_ONE_BY_ONE: Final = ("integrated_gradients", "occlusion", "activation_maximization")
_CONVOLUTIONS: Final = (nn.Conv2d, nn.ConvTranspose2d)


def explain(
    model: nn.Module,
    images: torch.Tensor,
    layer: nn.Module | str | None = None,
    methods: Sequence[str] | None = None,
) -> dict[str, Function]:
    """Programs that explain a classifier, by name, for `hearth.compile(…, explain=…)`.

    Args:
        model: takes images [B, C, H, W] and returns a row of scores per image, [B, classes].  The
            programs run it in eval mode.
        images: an example; only its shape matters.
        layer: whose output Grad-CAM and activation maximization look at, a module or its name; by
            default the last convolution for the one, and the scores for the other.
        methods: some of `METHODS`; by default all, without Grad-CAM where there is no convolution.

    Each program takes input/0, images, and input/1, a class (for activation maximization a channel)
    for each, and gives output/0; maximization also takes input/2, the rate, and gives output/images
    and output/activations.  Those that run many variants of an image take one image at a time.

    Raises `InvalidInputError` for an unknown method or layer.

    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten())
    >>> list(explain(model, torch.zeros(1, 1, 5, 5), methods=["saliency", "grad_cam"]))
    ['saliency', 'grad_cam']
    """
    if not isinstance(images, torch.Tensor) or images.dim() != 4:
        raise InvalidInputError(
            "the example for explain is no batch of images", remedy="pass a tensor [B, C, H, W]"
        )
    chosen = _module(model, layer) if layer is not None else None
    mapped = chosen or _last_convolution(model, images)
    makers = _makers(model, images, chosen, mapped)
    names = _names(methods, has_maps=mapped is not None)
    return {name: _function(model, name, makers[name](), images) for name in names}


def _names(methods: Sequence[str] | None, *, has_maps: bool) -> Sequence[str]:
    """The methods that were asked for, or all that the model admits."""
    unknown = [name for name in methods or () if name not in METHODS]
    if unknown:
        raise InvalidInputError(
            f"there is no method {unknown[0]!r}", remedy=f"use some of {', '.join(METHODS)}"
        )
    if not has_maps and "grad_cam" in (methods or ()):
        raise InvalidInputError(
            "grad_cam needs a layer with feature maps", why="the model calls no convolution",
            remedy="name one with layer=, or leave grad_cam out of the methods",
        )  # fmt: skip
    return [name for name in methods or METHODS if has_maps or name not in _NEED_LAYER]


def _makers(
    model: nn.Module, images: torch.Tensor, chosen: nn.Module | None, mapped: nn.Module | None
) -> Mapping[str, Callable[[], Callable[..., Any]]]:
    """What makes the function of a method; `mapped` is the layer with Grad-CAM's feature maps."""
    high, wide = (max(1, extent // 4) for extent in images.shape[2:])
    return {
        "saliency": lambda: saliency(model),
        "guided_backpropagation": lambda: guided_backpropagation(model),
        "grad_cam": lambda: grad_cam(model, mapped or model),
        "integrated_gradients": lambda: integrated_gradients(model),
        "occlusion": lambda: occlusion(model, (high, wide), (-(-high // 2), -(-wide // 2))),
        "activation_maximization": lambda: activation_maximization(model, chosen),
    }


def _function(
    model: nn.Module, name: str, look: Callable[..., Any], images: torch.Tensor
) -> Function:
    one = name in _ONE_BY_ONE
    example = torch.zeros_like(images[:1] if one else images)
    examples = [example, torch.zeros(len(example), dtype=torch.long)]
    if name == "activation_maximization":
        examples.append(torch.tensor(0.1))
    return Function(_evaluating(model, look), examples, batched=not one)


def _evaluating(model: nn.Module, look: Callable[..., Any]) -> Callable[..., Any]:
    """The function with the model in eval mode, which comes back to the modes that it had."""

    def looked(*tensors: torch.Tensor) -> Any:
        modes = [(module, module.training) for module in model.modules()]
        model.eval()
        try:
            return look(*tensors)
        finally:
            for module, training in modes:
                module.training = training

    return looked


def _module(model: nn.Module, layer: nn.Module | str) -> nn.Module:
    names: dict[str, nn.Module] = {name: m for name, m in model.named_modules() if name}
    if isinstance(layer, nn.Module):
        if layer in names.values():
            return layer
        raise InvalidInputError(f"the layer {type(layer).__name__} is not a part of the model")
    if layer in names:
        return names[layer]
    raise InvalidInputError(
        f"the model has no module {layer!r}", remedy=f"there are {', '.join(names)}"
    )


def _last_convolution(model: nn.Module, images: torch.Tensor) -> nn.Module | None:
    called: list[nn.Module] = []
    convolutions = [m for m in model.modules() if isinstance(m, _CONVOLUTIONS)]
    handles = [m.register_forward_hook(lambda m, _x, _y: called.append(m)) for m in convolutions]
    try:
        with torch.no_grad(), untouched(model):
            _evaluating(model, model)(torch.zeros_like(images))
    finally:
        for handle in handles:
            handle.remove()
    return called[-1] if called else None
