"""Points [B, D] in fewer dimensions: PCA by power iteration, and exact t-SNE step by step.

Plain PyTorch with fixed numbers of iterations, so that it compiles.  The pairs of t-SNE take B²
memory and time: right for some thousand points, not for millions.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hearth.functions.clustering import squared_distances

_SMALLEST_PROBABILITY = 1e-12
_SMALLEST_GAIN = 0.01


class Components(NamedTuple):
    """`mean` [D], `components` [K, D] of length one, their `variances` [K], `projected` [B, K]."""

    mean: Tensor
    components: Tensor
    variances: Tensor
    projected: Tensor


def pca(points: Tensor, components: int, iterations: int = 50) -> Components:
    """The directions of largest variance, by power iteration with deflation.

    Each direction starts at random, is multiplied `iterations` times with the covariance matrix
    (with B - 1, as in scikit-learn) and is then taken out of it.  The error of a direction falls
    with (λ₂/λ₁)^iterations, λ₁ being its variance and λ₂ the next.  Signs are such that the entry
    of largest magnitude is positive.  Directions without variance are finite and orthogonal to
    those before, and otherwise arbitrary.

    H. Hotelling, Analysis of a complex of statistical variables into principal components, 1933.

    >>> found = pca(torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]]), 2)
    >>> found.components.abs().round().tolist(), found.variances.round().tolist()
    ([[1.0, 0.0], [0.0, 1.0]], [6.0, 1.0])
    """
    mean = points.mean(0)
    centred = points - mean
    covariance = centred.T @ centred / torch.full_like(mean[0], len(points) - 1).clamp(min=1)
    directions = torch.zeros_like(covariance[:0])
    variances = []
    for _ in range(components):
        direction = _unit(_orthogonal(torch.randn_like(mean), directions))
        for _ in range(iterations):
            direction = _unit(_orthogonal(covariance @ direction, directions), direction)
        largest = direction.gather(0, direction.abs().argmax(0, keepdim=True))
        direction = torch.where(largest < 0, -direction, direction)
        variance = direction @ covariance @ direction
        covariance = covariance - variance * torch.outer(direction, direction)
        directions = torch.cat([directions, direction[None]])
        variances.append(variance)
    return Components(mean, directions, torch.stack(variances), centred @ directions.T)


def _orthogonal(vector: Tensor, directions: Tensor) -> Tensor:
    """The vector without its parts along the directions: what rounding left of them."""
    return vector - directions.T @ (directions @ vector) if len(directions) else vector


def _unit(vector: Tensor, otherwise: Tensor | None = None) -> Tensor:
    length = vector.square().sum().sqrt()
    scaled = vector / length.clamp(min=torch.finfo(vector.dtype).tiny)
    return scaled if otherwise is None else torch.where(length > 0, scaled, otherwise)


def tsne_affinities(points: Tensor, perplexity: float = 30.0, bisections: int = 40) -> Tensor:
    """The joint probabilities [B, B] of t-SNE: symmetric, zero on the diagonal, with sum 1.

    Row i is a Gaussian around point i whose precision is bisected, `bisections` times and on a
    logarithmic scale, until it has the given perplexity; P is the mean of the matrix and its
    transpose, over B.  A perplexity that B points do not reach (B - 1 or more) gives equal
    probabilities, and so do identical points.  For B = 1 the result is zero.

    L. van der Maaten and G. Hinton, Visualizing data using t-SNE, JMLR 9, 2008.

    >>> tsne_affinities(torch.tensor([[0.0], [1.0], [2.0]]), perplexity=9.0).mul(6).round().tolist()
    [[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]
    """
    distances, others = _relative_distances(points)
    low, high = torch.full_like(distances[:, :1], -30.0), torch.full_like(distances[:, :1], 30.0)
    for _ in range(bisections):
        middle = (low + high) / 2
        flat = _entropy(distances, others, middle.exp()) > math.log(perplexity)
        low, high = torch.where(flat, middle, low), torch.where(flat, high, middle)
    weights = _gaussian(distances, others, ((low + high) / 2).exp())
    rows = weights / weights.sum(1, keepdim=True).clamp(min=1)
    return (rows + rows.T) / (2 * len(points))


def _relative_distances(points: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances less the row's smallest, over the row's mean; and who is another point.

    Neither changes a row that is calibrated, and `exp` can no longer underflow for a whole row.
    """
    squared = squared_distances(points, points)
    index = torch.arange(len(points))
    others = index[:, None] != index
    nearest = torch.where(others, squared, float("inf")).amin(1, keepdim=True)
    above = torch.where(others, squared - nearest, 0.0)
    mean = above.mean(1, keepdim=True)
    return torch.where(mean > 0, above / mean, 0.0), others


def _gaussian(distances: Tensor, others: Tensor, precision: Tensor) -> Tensor:
    return torch.where(others, torch.exp(-distances * precision), 0.0)


def _entropy(distances: Tensor, others: Tensor, precision: Tensor) -> Tensor:
    """Of each row, in nats: log Σ w + β Σ w d / Σ w, where the largest w is 1."""
    weights = _gaussian(distances, others, precision)
    total = weights.sum(1, keepdim=True).clamp(min=1)
    return total.log() + precision * (weights * distances).sum(1, keepdim=True) / total


class TsneStep(NamedTuple):
    """The next `embedding`, `velocity` and `gains` [B, 2], and the `divergence` before the step."""

    embedding: Tensor
    velocity: Tensor
    gains: Tensor
    divergence: Tensor


def tsne_step(
    affinities: Tensor,
    embedding: Tensor,
    velocity: Tensor,
    gains: Tensor,
    learning_rate: Tensor,
    momentum: Tensor,
    exaggeration: Tensor,
) -> TsneStep:
    """One step of gradient descent on KL(P || Q), with momentum and a gain for each coordinate.

    `affinities` [B, B] comes from `tsne_affinities`; embedding, velocity and gains are [B, 2] (any
    number of columns does).  Start from small random numbers, zeros and ones.  The last three are
    scalars: van der Maaten and Hinton use momentum 0.5, later 0.8, and an exaggeration of P by 4,
    later 1; scikit-learn a learning rate of max(B / 48, 50) and an exaggeration of 12 for the first
    250 steps.  The divergence is that of the exaggerated P.

    A gain grows by 0.2 where the gradient goes against the velocity, else it shrinks by 0.8, to
    0.01 at least (R. Jacobs 1988).  The embedding is centred.

    >>> p = torch.tensor([[0.0, 0.5], [0.5, 0.0]])
    >>> y, zeros = torch.tensor([[1.0], [-1.0]]), torch.zeros(2, 1)
    >>> rate, momentum, one = torch.tensor(1.0), torch.tensor(0.5), torch.tensor(1.0)
    >>> tsne_step(p, y, zeros, zeros + 1, rate, momentum, one).embedding.tolist()
    [[1.0], [-1.0]]
    """
    gradient, divergence = tsne_gradient(affinities * exaggeration, embedding)
    opposed = (gradient > 0) != (velocity > 0)
    gains = torch.where(opposed, gains + 0.2, gains * 0.8).clamp(min=_SMALLEST_GAIN)
    velocity = momentum * velocity - learning_rate * gains * gradient
    embedding = embedding + velocity
    return TsneStep(embedding - embedding.mean(0), velocity, gains, divergence)


def tsne_gradient(affinities: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient [B, 2] of KL(P || Q) = Σ p log(p / q) for Student's t with one degree of
    freedom, 4 Σ_j (p_ij - q_ij) (y_i - y_j) / (1 + |y_i - y_j|²); and the divergence itself.

    >>> p = torch.tensor([[0.0, 0.5], [0.5, 0.0]])
    >>> [t.tolist() for t in tsne_gradient(p, torch.tensor([[1.0], [-1.0]]))]
    [[[0.0], [0.0]], 0.0]
    """
    index = torch.arange(len(embedding))
    others = index[:, None] != index
    student = torch.where(others, 1 / (1 + squared_distances(embedding, embedding)), 0.0)
    q = (student / student.sum().clamp(min=_SMALLEST_PROBABILITY)).clamp(min=_SMALLEST_PROBABILITY)
    p = affinities.clamp(min=_SMALLEST_PROBABILITY)
    pull = (p - q) * student
    gradient = 4 * (pull[:, :, None] * (embedding[:, None] - embedding[None])).sum(1)
    divergence = torch.where(others, affinities * (p / q).log(), 0.0).sum()
    return gradient, divergence
