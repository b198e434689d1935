"""Metrics of a training step in plain PyTorch, for `TrainStep(metrics={...})`.

A metric is called as the loss is, `metric(outputs, *targets)`, in evaluation mode.  One without
dimensions is a mean: over several batches it is averaged, each batch weighted by its samples.  One
with dimensions holds counts: over several batches it is summed.

Labels equal to `ignore_index` are left out, as the losses of PyTorch leave them out.  A batch has a
mean over what is left, 0 where nothing is; where batches differ in what they ignore, counts alone
are exact over all of them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hearth.errors import InvalidInputError

IGNORED = -100


def accuracy(outputs: Tensor, labels: Tensor, *, ignore_index: int = IGNORED) -> Tensor:
    """The fraction of labels [B, ...] at which the outputs [B, C, ...] are largest.

    >>> outputs = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.5, 0.1]])
    >>> accuracy(outputs, torch.tensor([1, 1, -100, 0]))
    tensor(0.6667)
    """
    _check_labels(outputs, labels)
    return _share(outputs.argmax(1) == labels, labels != ignore_index)


def top_k(k: int, *, ignore_index: int = IGNORED) -> Callable[[Tensor, Tensor], Tensor]:
    """The metric "the label [B, ...] is among the k largest outputs [B, C, ...]", as a fraction.

    Of equal outputs the one of the lower class is the larger, as for `accuracy`.  Raises
    `InvalidInputError` for k below 1 or above the number of classes.

    >>> outputs = torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.1, 0.4]])
    >>> top_k(2)(outputs, torch.tensor([1, 1]))
    tensor(0.5000)
    """
    _check_count("k", k, 1)

    def top_k_accuracy(outputs: Tensor, labels: Tensor) -> Tensor:
        _check_labels(outputs, labels)
        classes = outputs.shape[1]
        if k > classes:
            raise InvalidInputError(
                f"top_k({k}) of {classes} classes is always 1", remedy="pass a smaller k"
            )
        index, label = _class_index(outputs), labels[:, None]
        least = torch.full_like(outputs, -torch.inf)
        own = torch.where(index == label, outputs, least).amax(1, keepdim=True)
        # Counting what the label beats, not what beats it: a NaN beats nothing.
        beaten = (own > outputs) | ((own == outputs) & (label < index))
        return _share(beaten.sum(1) >= classes - k, labels != ignore_index)

    return top_k_accuracy


def mean_absolute_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean of |outputs - targets| over all elements.

    Raises `InvalidInputError` where the shapes differ: broadcasting [B, 1] against [B] would
    compare each output with every target.

    >>> mean_absolute_error(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 5.0]))
    tensor(2.)
    """
    return _difference(outputs, targets).abs().mean()


def mean_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean of (outputs - targets)² over all elements; shapes as in `mean_absolute_error`.

    >>> mean_squared_error(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 5.0]))
    tensor(5.)
    """
    return _difference(outputs, targets).square().mean()


def confusion_matrix(
    classes: int, *, ignore_index: int = IGNORED
) -> Callable[[Tensor, Tensor], Tensor]:
    """The metric [classes, classes] that counts in row i, column j the labels i predicted as j.

    It takes outputs [B, C, ...] and labels [B, ...].  Its sum is the number of labels, its trace
    over its sum the accuracy.  Raises `InvalidInputError` where the outputs have another number of
    classes.

    >>> outputs = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    >>> confusion_matrix(2)(outputs, torch.tensor([1, 1, 0])).tolist()
    [[0.0, 1.0], [1.0, 1.0]]
    """
    _check_count("classes", classes, 2)

    def counts(outputs: Tensor, labels: Tensor) -> Tensor:
        _check_labels(outputs, labels)
        if outputs.shape[1] != classes:
            raise InvalidInputError(
                f"confusion_matrix({classes}) of outputs with {outputs.shape[1]} classes",
                remedy=f"pass confusion_matrix({outputs.shape[1]})",
            )
        index = torch.arange(classes)
        labels, predicted = labels.flatten(), outputs.argmax(1).flatten()
        kept = (labels != ignore_index)[:, None]
        # Not a product of one-hot matrices: autocast would count in halves.
        rows = ((labels[:, None] == index) & kept)[:, :, None]
        return (rows & (predicted[:, None] == index)[:, None, :]).sum(0).float()

    return counts


def _share(hits: Tensor, kept: Tensor) -> Tensor:
    return (hits & kept).float().sum() / kept.float().sum().clamp(min=1)


def _class_index(outputs: Tensor) -> Tensor:
    """0, 1, … along dimension 1, as wide as the outputs [B, C, ...] have dimensions."""
    return torch.arange(outputs.shape[1]).reshape(-1, *(1 for _ in outputs.shape[2:]))


def _difference(outputs: Tensor, targets: Tensor) -> Tensor:
    if outputs.shape != targets.shape:
        raise InvalidInputError(
            f"outputs {_sizes(outputs)} and targets {_sizes(targets)} differ in shape",
            remedy="reshape one of them in a metric of your own, for example outputs.squeeze(1)",
        )
    return outputs.float() - targets.float()


def _check_labels(outputs: Tensor, labels: Tensor) -> None:
    wanted = [*outputs.shape[:1], *outputs.shape[2:]]
    if outputs.dim() < 2 or list(labels.shape) != wanted or labels.is_floating_point():
        raise InvalidInputError(
            f"outputs {_sizes(outputs)} do not go with labels {_sizes(labels)} of {labels.dtype}",
            why="this metric takes outputs [B, C, ...] and integer class labels [B, ...]",
            remedy="reshape them in a metric of your own that calls this one",
        )


def _sizes(tensor: Tensor) -> str:
    """The shape for people, who need not know the batch size that a step is captured with."""
    return f"[{', '.join(['B', *map(str, tensor.shape[1:])])}]" if tensor.dim() else "[]"


def _check_count(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidInputError(f"{name} is {value!r}", remedy=f"pass an integer from {least} on")
