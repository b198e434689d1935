"""Embeddings, gather and scatter: few rows by comparison with every index, many by lookup."""

from __future__ import annotations

from typing import Any

import torch

from hearth.capture.decompositions.registry import aten, operator, rule

Tensor = torch.Tensor
COMPARED_ROWS = 16  # up to so many rows of a gather are worth a comparison with every index

operator(
    "index_add(Tensor g, Tensor indices, int size) -> Tensor",
    lambda g, indices, size: g.new_empty((size, *g.shape[1:])),  # noqa: ARG005
)


@rule(aten.embedding.default)
def embedding(
    weight: Tensor,
    indices: Tensor,
    padding_index: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Any:
    if scale_grad_by_freq:
        return NotImplemented
    indices = torch.ops.hearth.index_range(indices, weight.shape[0], None)
    rows = torch.index_select(weight, 0, indices.reshape(-1))
    return rows.reshape(*indices.shape, weight.shape[1])


@rule(aten.embedding_dense_backward.default)
def embedding_backward(
    g: Tensor, indices: Tensor, size: int, padding_index: int, scale_grad_by_freq: bool
) -> Any:
    if scale_grad_by_freq:
        return NotImplemented
    if padding_index >= 0:
        g = torch.where((indices == padding_index).unsqueeze(-1), 0.0, g)
    flat = g.reshape(-1, g.shape[-1])
    return torch.ops.hearth.index_add(flat, indices.reshape(-1), size)


def _hits(indices: Tensor, axis: int, size: int) -> Tensor:
    """Whether an index (along `axis`) meets a position (along a new axis behind it)."""
    shape = [1] * (indices.dim() + 1)
    shape[axis + 1] = size
    return indices.unsqueeze(axis + 1) == torch.arange(size).reshape(shape)


@rule(aten.gather.default)
def gather(x: Tensor, axis: int, indices: Tensor, sparse_grad: bool = False) -> Any:
    axis = axis % max(x.dim(), 1)
    if x.dim() < 2 or indices.shape[axis] > COMPARED_ROWS:
        return NotImplemented
    for other in range(x.dim()):
        if other != axis and x.shape[other] != indices.shape[other]:
            x = x.narrow(other, 0, indices.shape[other])
    indices = torch.ops.hearth.index_range(indices, x.shape[axis], None)
    zero = torch.zeros((), dtype=x.dtype)
    hits = _hits(indices, axis, x.shape[axis])
    return torch.where(hits, x.unsqueeze(axis), zero).sum([axis + 1], dtype=x.dtype)


def _few_whole_rows(x: Tensor, axis: int, indices: Tensor) -> bool:
    """Whether a scatter covers x in every axis but its own, with few rows."""
    same = all(x.shape[a] == indices.shape[a] for a in range(x.dim()) if a != axis)
    return x.dim() > 0 and same and indices.shape[axis] <= COMPARED_ROWS


@rule(aten.scatter_add.default)
def scatter_add(x: Tensor, axis: int, indices: Tensor, source: Tensor) -> Any:
    axis = axis % max(x.dim(), 1)
    if indices.shape != source.shape or not _few_whole_rows(x, axis, indices):
        return NotImplemented
    zero = torch.zeros((), dtype=x.dtype)
    hits = _hits(indices, axis, x.shape[axis])
    return x + torch.where(hits, source.unsqueeze(axis + 1), zero).sum([axis], dtype=x.dtype)


@rule(aten.scatter.src)
def scatter(x: Tensor, axis: int, indices: Tensor, source: Tensor) -> Any:
    """As in PyTorch, an index that occurs twice in a row has no defined result."""
    axis = axis % max(x.dim(), 1)
    if indices.shape != source.shape or not _few_whole_rows(x, axis, indices):
        return NotImplemented
    zero = torch.zeros((), dtype=x.dtype)
    hits = _hits(indices, axis, x.shape[axis])
    written = torch.where(hits, source.unsqueeze(axis + 1), zero).sum([axis], dtype=x.dtype)
    return torch.where(hits.any(axis), written, x)
