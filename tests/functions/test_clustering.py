from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.metrics import silhouette_samples, silhouette_score

from hearth.functions.clustering import (
    kmeans_plus_plus,
    kmeans_step,
    minibatch_kmeans_step,
    silhouette,
)
from tests.functions.devices import SEED, assert_device_agrees, in_float64


def points_of(count: int, features: int = 5, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + count)
    return torch.randn(count, features, generator=generator, dtype=torch.float64)


# ---------------------------------------------------------------- k-means


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("far", [0.0, 100.0], ids=["no empty cluster", "two empty clusters"])
def test_a_step_moves_the_centres_as_scikit_learn_does(far: float) -> None:
    points, centres = points_of(40), points_of(6, seed=3)
    centres[[1, 4]] += far
    theirs = KMeans(6, init=centres.numpy(), n_init=1, max_iter=1, algorithm="lloyd")
    theirs.fit(points.numpy())
    ours = kmeans_step(points, centres, relocate=True)
    np.testing.assert_allclose(ours.centres.numpy(), theirs.cluster_centers_, atol=1e-12)
    following = kmeans_step(points, ours.centres, relocate=True)
    np.testing.assert_array_equal(following.labels.numpy(), theirs.labels_)
    np.testing.assert_allclose(following.inertia.item(), theirs.inertia_, rtol=1e-12)


def test_repeated_steps_find_what_scikit_learn_finds() -> None:
    points, centres = points_of(60), points_of(60)[:4].clone()
    theirs = KMeans(4, init=centres.numpy(), n_init=1, max_iter=300, tol=0).fit(points.numpy())
    inertias = []
    for _ in range(50):
        step = kmeans_step(points, centres)
        centres = step.centres
        inertias.append(step.inertia.item())
    assert inertias == sorted(inertias, reverse=True)
    np.testing.assert_allclose(centres.numpy(), theirs.cluster_centers_, atol=1e-10)


def test_an_empty_cluster_stays_where_it_is() -> None:
    points, centres = points_of(9), torch.zeros(3, 5, dtype=torch.float64)
    centres[1] += 1000
    step = kmeans_step(points, centres)
    assert torch.equal(step.centres[1], centres[1])
    assert step.counts.tolist() == [9, 0, 0]  # of two equal centres the first has all points
    assert torch.equal(step.centres[2], centres[2])


def test_a_cluster_for_every_point_and_more_clusters_than_points_are_finite() -> None:
    points = points_of(3)
    same = kmeans_step(points, points.clone(), relocate=True)
    assert same.inertia == 0
    assert torch.equal(same.centres, points)
    more = torch.cat([points, points_of(4, seed=9) + 50])
    step = kmeans_step(points, more, relocate=True)
    assert torch.equal(step.centres, more)  # no point is away from its centre
    one = kmeans_step(points[:1], points_of(4, seed=9), relocate=True)
    assert one.centres.isfinite().all()


def test_identical_points_have_one_cluster() -> None:
    points = torch.ones(7, 2, dtype=torch.float64)
    centres = torch.tensor([[0.0, 0.0], [3.0, 3.0]], dtype=torch.float64)
    step = kmeans_step(points, centres)
    assert step.labels.tolist() == [0] * 7
    assert step.centres.tolist() == [[1, 1], [3, 3]]


def test_mini_batches_move_the_centres_as_scikit_learn_does() -> None:
    first, second, centres = points_of(20), points_of(30), points_of(4, seed=5)
    theirs = MiniBatchKMeans(4, init=centres.numpy(), n_init=1, reassignment_ratio=0)
    seen = torch.zeros(4, dtype=torch.float64)
    for batch in (first, second):
        theirs.partial_fit(batch.numpy())
        step = minibatch_kmeans_step(batch, centres, seen)
        centres, seen = step.centres, step.counts
    np.testing.assert_allclose(centres.numpy(), theirs.cluster_centers_, atol=1e-12)
    assert seen.sum() == 50


@pytest.mark.parametrize("relocate", [False, True])
def test_a_compiled_step_agrees(device: str, tmp_path: Path, relocate: bool) -> None:
    centres = points_of(7, seed=3)
    centres[2] += 100

    def step(points: torch.Tensor, centres: torch.Tensor) -> object:
        return kmeans_step(points, centres, relocate=relocate)

    assert_device_agrees(
        step, lambda b: (points_of(b), centres), device, tmp_path,
        batched=(True, False), batches=(1, 6, 23),
    )  # fmt: skip


def test_a_compiled_mini_batch_step_agrees(device: str, tmp_path: Path) -> None:
    centres, seen = points_of(3, seed=3), torch.tensor([0.0, 5.0, 1.0]).double()
    assert_device_agrees(
        minibatch_kmeans_step, lambda b: (points_of(b), centres, seen), device, tmp_path,
        batched=(True, False, False),
    )  # fmt: skip


# ---------------------------------------------------------------- seeding


def test_centres_are_drawn_in_proportion_to_the_squared_distance() -> None:
    points = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64)
    torch.manual_seed(SEED)
    drawn = torch.stack([kmeans_plus_plus(points, 2)[:, 0] for _ in range(4000)])
    first = torch.stack([(drawn[:, 0] == v).double().mean() for v in (0, 1, 3)])
    np.testing.assert_allclose(first, [1 / 3] * 3, atol=4 * (2 / 9 / 4000) ** 0.5)
    after_zero = drawn[drawn[:, 0] == 0, 1]
    share = (after_zero == 3).double().mean().item()
    assert abs(share - 0.9) < 4 * (0.09 / len(after_zero)) ** 0.5
    assert not (drawn[:, 0] == drawn[:, 1]).any()


def test_as_many_centres_as_points_are_all_the_points() -> None:
    points = points_of(8)
    centres = kmeans_plus_plus(points, 8)
    assert sorted(centres.tolist()) == sorted(points.tolist())


def test_identical_points_are_seeded_with_copies() -> None:
    points = torch.ones(4, 3, dtype=torch.float64)
    assert torch.equal(kmeans_plus_plus(points, 3), points[:3])


def test_compiled_seeding_draws_the_same_centres(device: str, tmp_path: Path) -> None:
    assert_device_agrees(
        lambda p: kmeans_plus_plus(p, 4), lambda b: [points_of(b)], device, tmp_path,
        batches=(1, 4, 29), tolerance=0,
    )  # fmt: skip


# ---------------------------------------------------------------- silhouette


def test_the_silhouette_is_that_of_scikit_learn() -> None:
    points = points_of(30)
    labels = torch.arange(30) % 4
    labels[0] = 5  # alone, and cluster 4 is empty
    ours = silhouette(points, labels, clusters=6)
    theirs = silhouette_samples(points.numpy(), labels.numpy())
    np.testing.assert_allclose(ours.samples.numpy(), theirs, atol=1e-12)
    score = silhouette_score(points.numpy(), labels.numpy())
    np.testing.assert_allclose(ours.mean.item(), score, atol=1e-12)


def test_the_silhouette_is_zero_where_it_is_not_defined() -> None:
    points = points_of(5)
    one_cluster = silhouette(points, torch.zeros(5, dtype=torch.long), clusters=3)
    assert one_cluster.samples.tolist() == [0] * 5
    all_alone = silhouette(points, torch.arange(5), clusters=5)
    assert all_alone.samples.tolist() == [0] * 5
    same = silhouette(torch.ones(4, 2), torch.tensor([0, 0, 1, 1]), clusters=2)
    assert same.samples.tolist() == [0] * 4


def test_a_compiled_silhouette_agrees(device: str, tmp_path: Path) -> None:
    assert_device_agrees(
        lambda p, k: silhouette(p, k, clusters=4),
        lambda b: (points_of(b), torch.arange(b) ** 2 % 4),
        device, tmp_path, batches=(1, 6, 23),
    )  # fmt: skip


def test_the_eager_function_names_its_outputs() -> None:
    named = in_float64(kmeans_step, [points_of(3), points_of(2)])
    assert list(named) == [
        "output/centres", "output/labels", "output/distances", "output/counts", "output/inertia",
    ]  # fmt: skip
