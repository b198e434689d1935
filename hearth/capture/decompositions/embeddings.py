"""Embeddings: rows of a table by index, one for each index or one for each bag of indices."""

from __future__ import annotations

import torch

from hearth.capture.decompositions.lookups import in_range
from hearth.capture.decompositions.registry import aten, rule

Tensor = torch.Tensor
Optional = Tensor | None
SUM, MEAN, MAX = 0, 1, 2


@rule(aten.embedding.default)
def embedding(
    weight: Tensor,
    indices: Tensor,
    padding_index: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    rows = torch.index_select(weight, 0, in_range(indices, weight.shape[0]).reshape(-1))
    return rows.reshape(*indices.shape, weight.shape[1])


@rule(aten.embedding_dense_backward.default)
def embedding_backward(
    g: Tensor, indices: Tensor, size: int, padding_index: int, scale_grad_by_freq: bool
) -> Tensor:
    if padding_index >= 0:
        g = torch.where((indices == padding_index).unsqueeze(-1), 0.0, g)
    flat = indices.reshape(-1)
    total: Tensor = torch.ops.hearth.index_add(g.reshape(-1, g.shape[-1]), flat, size)
    return total / _uses(flat, size, g.dtype) if scale_grad_by_freq else total


def _uses(indices: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """How often each row is used, at least 1: [size, 1]."""
    uses = torch.ops.hearth.index_add(torch.ones_like(indices, dtype=dtype), indices, size)
    return torch.clamp(uses, min=1).unsqueeze(-1)


@rule(aten.embedding_renorm.default)
def embedding_renorm(weight: Tensor, indices: Tensor, max_norm: float, norm_type: float) -> Tensor:
    """Rows that are looked up get at most this norm (aten/native/Embedding.cpp)."""
    used = (indices.reshape(-1, 1) == torch.arange(weight.shape[0])).any(0)
    norm = torch.linalg.vector_norm(weight, norm_type, [1])
    scale = torch.where(used & (norm > max_norm), max_norm / (norm + 1e-7), 1.0)
    return weight * scale.unsqueeze(1)


# ------------------------------------------------------------------ bags


def _counted(indices: Tensor, padding_index: int) -> Tensor:
    """Which indices count: not those of the padding."""
    return indices != padding_index if padding_index >= 0 else torch.ones_like(indices) > 0


@rule(aten._embedding_bag.default, aten._embedding_bag_forward_only.default)
def embedding_bag(
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = SUM,
    sparse: bool = False,
    per_sample_weights: Optional = None,
    include_last_offset: bool = False,
    padding_index: int = -1,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The bags, the bag of each index, the number of counted indices, and where a maximum was."""
    bags = offsets.shape[0] - int(include_last_offset)
    number = torch.arange(indices.shape[0])
    bag = (offsets[:bags] <= number.unsqueeze(-1)).sum(-1) - 1
    rows = torch.index_select(weight, 0, in_range(indices, weight.shape[0]))
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.unsqueeze(-1)
    counted = _counted(indices, padding_index)
    aim = torch.where(counted, bag, -1)  # no bag for the padding
    size = torch.ops.hearth.index_add(torch.ones_like(aim), aim, bags)
    if mode == MAX:
        values, owners = _largest(rows, indices, aim, bags)
        return values, bag, size, owners
    total = torch.ops.hearth.index_add(rows, aim, bags)
    if mode == MEAN:
        total = total / torch.clamp(size, min=1).to(total.dtype).unsqueeze(-1)
    return total, bag, size, torch.zeros_like(size)


def _largest(rows: Tensor, indices: Tensor, aim: Tensor, bags: int) -> tuple[Tensor, Tensor]:
    """The largest element of each bag (of an empty one 0) and the first index that has it."""
    hit = (aim.unsqueeze(-1) == torch.arange(bags)).unsqueeze(-1)
    spread = torch.where(hit, rows.unsqueeze(1), -torch.inf)
    first = spread.argmax(0)
    owners = torch.index_select(indices, 0, first.reshape(-1)).reshape(first.shape)
    return torch.where(hit.any(0), spread.amax(0), 0.0), owners


@rule(aten._embedding_bag_backward.default)
def embedding_bag_backward(
    g: Tensor,
    indices: Tensor,
    offsets: Tensor,
    bag: Tensor,
    size: Tensor,
    owners: Tensor,
    rows: int,
    scale_grad_by_freq: bool,
    mode: int,
    sparse: bool,
    per_sample_weights: Optional,
    padding_index: int = -1,
) -> Tensor:
    if mode == MAX:
        g = torch.where((size > 0).unsqueeze(-1), g, 0.0)
        return torch.scatter_add(g.new_zeros((rows, g.shape[1])), 0, owners, g)
    if mode == MEAN:
        g = g / torch.clamp(size, min=1).to(g.dtype).unsqueeze(-1)
    share = torch.index_select(g, 0, bag)
    if per_sample_weights is not None:
        share = share * per_sample_weights.unsqueeze(-1)
    aim = torch.where(_counted(indices, padding_index), indices, -1)
    total: Tensor = torch.ops.hearth.index_add(share, aim, rows)
    return total / _uses(indices, rows, g.dtype) if scale_grad_by_freq else total


@rule(aten._embedding_bag_per_sample_weights_backward.default)
def embedding_bag_weights_backward(
    g: Tensor,
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    bag: Tensor,
    mode: int,
    padding_index: int = -1,
) -> Tensor:
    rows, share = torch.index_select(weight, 0, indices), torch.index_select(g, 0, bag)
    return torch.where(_counted(indices, padding_index), (rows * share).sum(-1), 0.0)
