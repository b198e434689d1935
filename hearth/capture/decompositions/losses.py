"""Losses as pointwise operations and sums; class labels become a comparison with an iota.

`hearth.index_range` marks class labels, so that the runtime can check them before it trains.
"""

from __future__ import annotations

import torch

from hearth.capture.decompositions.registry import aten, operator, rule

Tensor = torch.Tensor
Optional = Tensor | None
NONE, MEAN, SUM = 0, 1, 2

operator(
    "index_range(Tensor y, int size, int? except_value) -> Tensor",
    lambda y, size, except_value: torch.empty_like(y),  # noqa: ARG005
)


def _reduce(loss: Tensor, reduction: int) -> Tensor:
    if reduction == NONE:
        return loss
    return loss.sum() / loss.numel() if reduction == MEAN else loss.sum()


def _share(g: Tensor, x: Tensor, reduction: int) -> Tensor:
    """The gradient that reaches each element through the reduction."""
    return g / x.numel() if reduction == MEAN else g


def _is_class(x: Tensor, labels: Tensor, ignored: int) -> Tensor:
    """One-hot labels: bool, of the shape of x, without a hit where the label is ignored."""
    axis = 0 if x.dim() == 1 else 1
    shape = [1] * x.dim()
    shape[axis] = classes = x.shape[axis]
    hit = labels.unsqueeze(axis) == torch.arange(classes).reshape(shape)
    outside = ignored < 0 or ignored >= classes
    return hit if outside else hit & (labels != ignored).unsqueeze(axis)


def _class_weights(x: Tensor, weight: Tensor) -> Tensor:
    return weight.reshape([-1 if axis == min(1, x.dim() - 1) else 1 for axis in range(x.dim())])


@rule(aten.nll_loss_forward.default, aten.nll_loss2d_forward.default)
def nll_loss(
    x: Tensor, labels: Tensor, weight: Optional, reduction: int, ignored: int
) -> tuple[Tensor, Tensor]:
    axis = 0 if x.dim() == 1 else 1
    labels = torch.ops.hearth.index_range(labels, x.shape[axis], ignored)
    hit = _is_class(x, labels, ignored)
    weighted = x if weight is None else x * _class_weights(x, weight)
    loss = -torch.where(hit, weighted, 0.0).sum([axis])
    if weight is None:
        total = (labels != ignored).to(x.dtype).sum()
    else:
        total = torch.where(hit, _class_weights(x, weight), 0.0).sum()
    if reduction == NONE:
        return loss, torch.zeros_like(total)
    return (loss.sum() / total if reduction == MEAN else loss.sum()), total


@rule(aten.nll_loss_backward.default, aten.nll_loss2d_backward.default)
def nll_loss_backward(
    g: Tensor,
    x: Tensor,
    labels: Tensor,
    weight: Optional,
    reduction: int,
    ignored: int,
    total: Tensor,
) -> Tensor:
    g = -(g / total if reduction == MEAN else g)
    if reduction == NONE and x.dim() > 1:
        g = g.unsqueeze(1)
    g = g if weight is None else g * _class_weights(x, weight)
    return torch.where(_is_class(x, labels, ignored), g, 0.0)


@rule(aten.mse_loss.default)
def mse_loss(x: Tensor, y: Tensor, reduction: int = MEAN) -> Tensor:
    difference = x - y
    return _reduce(difference * difference, reduction)


@rule(aten.mse_loss_backward.default)
def mse_loss_backward(g: Tensor, x: Tensor, y: Tensor, reduction: int) -> Tensor:
    return _share(2.0 * g, x, reduction) * (x - y)


@rule(aten.smooth_l1_loss.default)
def smooth_l1_loss(x: Tensor, y: Tensor, reduction: int = MEAN, beta: float = 1.0) -> Tensor:
    z = torch.abs(x - y)
    return _reduce(torch.where(z < beta, 0.5 * z * z / beta, z - 0.5 * beta), reduction)


@rule(aten.smooth_l1_loss_backward.default)
def smooth_l1_loss_backward(g: Tensor, x: Tensor, y: Tensor, reduction: int, beta: float) -> Tensor:
    d = x - y
    slope = torch.where(torch.abs(d) < beta, d / beta, torch.sign(d))
    return _share(g, x, reduction) * slope


@rule(aten.huber_loss.default)
def huber_loss(x: Tensor, y: Tensor, reduction: int = MEAN, delta: float = 1.0) -> Tensor:
    z = torch.abs(x - y)
    return _reduce(torch.where(z < delta, 0.5 * z * z, delta * (z - 0.5 * delta)), reduction)


@rule(aten.huber_loss_backward.default)
def huber_loss_backward(g: Tensor, x: Tensor, y: Tensor, reduction: int, delta: float) -> Tensor:
    d = x - y
    slope = torch.where(torch.abs(d) < delta, d, delta * torch.sign(d))
    return _share(g, x, reduction) * slope


def _log1p_exp_minus_abs(x: Tensor) -> Tensor:
    return torch.log1p(torch.exp(-torch.abs(x)))


@rule(aten.binary_cross_entropy_with_logits.default)
def bce_with_logits(
    x: Tensor,
    y: Tensor,
    weight: Optional = None,
    pos_weight: Optional = None,
    reduction: int = MEAN,
) -> Tensor:
    tail = _log1p_exp_minus_abs(x) + torch.clamp(-x, min=0)
    if pos_weight is not None:
        tail = ((pos_weight - 1) * y + 1) * tail
    loss = (1 - y) * x + tail
    return _reduce(loss if weight is None else loss * weight, reduction)


@rule(aten.binary_cross_entropy.default)
def bce(x: Tensor, y: Tensor, weight: Optional = None, reduction: int = MEAN) -> Tensor:
    """PyTorch bounds the logarithms from below by -100."""
    log_x = torch.clamp(torch.log(x), min=-100)
    log_1_x = torch.clamp(torch.log1p(-x), min=-100)
    loss = (y - 1) * log_1_x - y * log_x
    return _reduce(loss if weight is None else loss * weight, reduction)


@rule(aten.binary_cross_entropy_backward.default)
def bce_backward(
    g: Tensor, x: Tensor, y: Tensor, weight: Optional = None, reduction: int = MEAN
) -> Tensor:
    slope = (x - y) / torch.clamp((1 - x) * x, min=1e-12)
    slope = slope if weight is None else slope * weight
    return _share(g, x, reduction) * slope


@rule(aten.log_sigmoid_forward.default)
def log_sigmoid(x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.clamp(x, max=0) - _log1p_exp_minus_abs(x), x.new_zeros((0,))


@rule(aten.log_sigmoid_backward.default)
def log_sigmoid_backward(g: Tensor, x: Tensor, buffer: Tensor) -> Tensor:
    return g * torch.sigmoid(-x)


@rule(aten.multi_margin_loss_backward.default)
def multi_margin_loss_backward(
    g: Tensor,
    x: Tensor,
    labels: Tensor,
    power: int,
    margin: float,
    weight: Optional = None,
    reduction: int = MEAN,
) -> Tensor:
    rows = x.reshape(-1, x.shape[-1] if x.dim() else 1)
    hit = labels.reshape(-1, 1) == torch.arange(rows.shape[1])
    excess = margin - torch.where(hit, rows, 0.0).sum(1, True) + rows
    slope = 2 * excess if power == 2 else torch.ones_like(excess)
    slope = torch.where((excess > 0) & ~hit, slope, 0.0)
    if weight is not None:
        slope = slope * torch.where(hit, weight, 0.0).sum(1, True)
    slope = torch.where(hit, -slope.sum(1, True), slope) / rows.shape[1]
    share = _share(g, rows[:, 0], reduction)
    return (slope * (share.reshape(-1, 1) if reduction == NONE else share)).reshape(x.shape)


def _label_violations(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Labels as hits [row, label, class], which of the classes they violate and by how much.

    A row's labels end at the first -1; each is compared with every class that is no label.
    """
    classes = x.shape[-1] if x.dim() else 1
    rows, labels = x.reshape(-1, 1, classes), labels.reshape(-1, classes)
    position = torch.arange(classes)
    end = torch.where(labels == -1, position, classes).amin(1, True)
    hits = (position < end).unsqueeze(2) & (labels.unsqueeze(2) == position)
    excess = 1 - torch.where(hits, rows, 0.0).sum(2, True) + rows
    is_target = hits.any(1, True)
    return hits, hits.any(2, True) & ~is_target & (excess > 0), excess, is_target


@rule(aten.multilabel_margin_loss_forward.default)
def multilabel_margin_loss(x: Tensor, labels: Tensor, reduction: int) -> tuple[Tensor, Tensor]:
    _, violated, excess, is_target = _label_violations(x, labels)
    loss = torch.where(violated, excess, 0.0).sum((1, 2)) / excess.shape[2]
    loss = loss if x.dim() > 1 else loss.reshape(())
    return _reduce(loss, reduction), is_target.to(x.dtype).reshape(labels.shape)


@rule(aten.multilabel_margin_loss_backward.default)
def multilabel_margin_loss_backward(
    g: Tensor, x: Tensor, labels: Tensor, reduction: int, is_target: Tensor
) -> Tensor:
    hits, violated, excess, _ = _label_violations(x, labels)
    pushed = violated.to(x.dtype)
    pulled = torch.where(hits, pushed.sum(2, True), 0.0).sum(1)
    slope = (pushed.sum(1) - pulled) / excess.shape[2]
    share = _share(g, excess[:, 0, 0], reduction)
    return (slope * (share.reshape(-1, 1) if reduction == NONE else share)).reshape(x.shape)
