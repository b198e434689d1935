"""Clustering of points [B, D]: k-means, its seeding, and the silhouette.

Plain PyTorch; every function has one shape of result for every batch, so that it compiles with
`hearth.compile_function`.  Nothing here decides when to stop: the caller repeats a step until the
inertia no longer falls.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """[N, D], [M, D] -> [N, M]: by differences, so that near points do not cancel.

    >>> squared_distances(torch.tensor([[0.0], [3.0]]), torch.tensor([[1.0]])).tolist()
    [[1.0], [4.0]]
    """
    return (a[:, None] - b[None]).square().sum(2)


class KMeansStep(NamedTuple):
    """What one step of k-means found.

    `labels` [B], `distances` [B] (squared, to the own centre) and `inertia` (their sum) belong to
    the centres that were given; `centres` [K, D] are the next ones, the means of `counts` [K]
    points each.
    """

    centres: Tensor
    labels: Tensor
    distances: Tensor
    counts: Tensor
    inertia: Tensor


def kmeans_step(points: Tensor, centres: Tensor, relocate: bool = False) -> KMeansStep:
    """One iteration of Lloyd's algorithm: assignment and update.

    `points` is [B, D], `centres` [K, D].  Of equally near centres the first wins.  A cluster
    without points stays where it is.  With `relocate` it takes over a point that is far from its
    own centre, as in scikit-learn: the first empty cluster gets the farthest point, the second the
    next one, as long as there are points that do not lie on their centre.

    S. Lloyd, Least squares quantization in PCM, 1982.

    >>> step = kmeans_step(torch.tensor([[0.0], [2.0], [9.0]]), torch.tensor([[0.0], [8.0]]))
    >>> step.centres.tolist(), step.labels.tolist(), step.inertia.item()
    ([[1.0], [9.0]], [0, 0, 1], 5.0)
    """
    distances, labels, members = _assigned(points, centres)
    owned = _relocated(members, distances) if relocate else members
    counts = owned.sum(0)
    means = owned.to(points.dtype).T @ points / counts.clamp(min=1)[:, None]
    moved = torch.where(counts[:, None] > 0, means, centres)
    return KMeansStep(moved, labels, distances, counts, distances.sum())


def minibatch_kmeans_step(points: Tensor, centres: Tensor, seen: Tensor) -> KMeansStep:
    """One step of k-means on a mini-batch: each centre is the mean of all points it ever had.

    `seen` [K] is how many points each centre had before, as a float; `counts` of the result is the
    next `seen`.  Centres without points in this batch stay.

    D. Sculley, Web-scale k-means clustering, 2010.

    >>> points, centres = torch.tensor([[2.0]]), torch.tensor([[0.0], [9.0]])
    >>> step = minibatch_kmeans_step(points, centres, seen=torch.tensor([3.0, 1.0]))
    >>> step.centres.tolist(), step.counts.tolist()
    ([[0.5], [9.0]], [4.0, 1.0])
    """
    distances, labels, members = _assigned(points, centres)
    weights = members.to(points.dtype)
    new = weights.sum(0)
    counts = seen + new
    change = weights.T @ points - new[:, None] * centres
    moved = centres + change / counts.clamp(min=1)[:, None]
    return KMeansStep(moved, labels, distances, counts, distances.sum())


def kmeans_plus_plus(points: Tensor, clusters: int) -> Tensor:
    """`clusters` starting centres [K, D], drawn among the points [B, D].

    The first is uniform, each further one is drawn with a probability proportional to its squared
    distance from the nearest centre so far.  The draw is an exponential race (the smallest of
    E_i / w_i is at i with probability w_i / Σw), which needs no running sum.  Where fewer than
    `clusters` points differ, the rest are copies of a point.

    D. Arthur and S. Vassilvitskii, k-means++: the advantages of careful seeding, 2007.

    >>> kmeans_plus_plus(torch.tensor([[1.0, 2.0]]), clusters=2).tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """
    weights = torch.ones_like(points[:, 0])
    nearest = torch.full_like(weights, float("inf"))
    chosen = []
    for _ in range(clusters):
        times = -torch.log1p(-torch.rand_like(weights)) / weights
        winner = torch.where(weights > 0, times, float("inf")).argmin()
        centre = points.index_select(0, winner.reshape(1))
        chosen.append(centre)
        nearest = torch.minimum(nearest, squared_distances(points, centre)[:, 0])
        weights = nearest
    return torch.cat(chosen)


class Silhouette(NamedTuple):
    """`samples` [B] in [-1, 1], and their mean."""

    samples: Tensor
    mean: Tensor


def silhouette(points: Tensor, labels: Tensor, clusters: int) -> Silhouette:
    """How much nearer each point is to its own cluster than to the next one.

    `points` is [B, D], `labels` [B] integers in [0, clusters).  s = (b - a) / max(a, b): a is the
    mean distance to the other points of the cluster, b the smallest mean distance to the points of
    another cluster.  A point alone in its cluster has s = 0; so has every point where there is
    only one cluster (scikit-learn raises there).  Memory grows with B².

    P. J. Rousseeuw, Silhouettes: a graphical aid to the interpretation and validation of cluster
    analysis, 1987.

    >>> points = torch.tensor([[0.0], [1.0], [9.0]])
    >>> silhouette(points, torch.tensor([0, 0, 1]), clusters=2).samples.tolist()
    [0.8888888955116272, 0.875, 0.0]
    """
    members = labels[:, None] == torch.arange(clusters)
    weights = members.to(points.dtype)
    counts = weights.sum(0)
    totals = squared_distances(points, points).sqrt() @ weights
    own = (totals * weights).sum(1) / ((counts * weights).sum(1) - 1).clamp(min=1)
    other = (counts > 0) & ~members
    means = torch.where(other, totals / counts.clamp(min=1), float("inf"))
    nearest = means.amin(1)
    alone = (counts * weights).sum(1) <= 1
    width = torch.maximum(own, nearest)
    defined = ~alone & (width > 0) & (nearest < float("inf"))
    samples = torch.where(defined, (nearest - own) / width, 0.0)
    return Silhouette(samples, samples.mean())


def _assigned(points: Tensor, centres: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Smallest squared distances [B], labels [B] and memberships [B, K] as booleans."""
    distances = squared_distances(points, centres)
    labels = distances.argmin(1)
    return distances.amin(1), labels, labels[:, None] == torch.arange(len(centres))


def _relocated(members: Tensor, distances: Tensor) -> Tensor:
    """Memberships in which the farthest points have gone to the empty clusters.

    The candidates are padded, so that there are K of them for every batch; a padded one is no
    point, and its cluster stays empty.
    """
    clusters = members.shape[1]
    empty = ~members.any(0)
    rank = empty.cumsum(0) - 1
    padded = torch.cat([distances, torch.full_like(distances[:1], -1.0).expand(clusters)])
    farthest = padded.topk(clusters).indices.gather(0, rank.clamp(min=0))
    position = torch.arange(len(distances))[:, None]
    moves = (position == farthest) & empty & (distances[:, None] > 0)
    return torch.where(moves.any(1, keepdim=True), moves, members)
