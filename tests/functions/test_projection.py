from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist, squareform
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.manifold import _t_sne, trustworthiness

from hearth.functions.projection import pca, tsne_affinities, tsne_gradient, tsne_step
from tests.functions.devices import assert_device_agrees

SPREAD = torch.tensor([9.0, 5.0, 2.5, 1.0, 0.3], dtype=torch.float64)


def points_of(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + count)
    return torch.randn(count, 5, generator=generator, dtype=torch.float64) * SPREAD + 3


# ---------------------------------------------------------------- PCA


def test_pca_finds_the_components_of_scikit_learn() -> None:
    points = points_of(60)
    ours, theirs = pca(points, 4, iterations=300), PCA(4).fit(points.numpy())
    np.testing.assert_allclose(ours.mean, theirs.mean_, rtol=1e-12)
    np.testing.assert_allclose(ours.variances, theirs.explained_variance_, rtol=1e-10)
    signs = np.sign((ours.components.numpy() * theirs.components_).sum(1))
    components = theirs.components_ * signs[:, None]
    np.testing.assert_allclose(ours.components, components, atol=1e-9)
    projected = theirs.transform(points.numpy()) * signs
    np.testing.assert_allclose(ours.projected, projected, atol=1e-7)
    largest = ours.components.gather(1, ours.components.abs().argmax(1, keepdim=True))
    assert (largest > 0).all()


@pytest.mark.parametrize("count", [1, 2, 5], ids="{} points".format)
def test_components_without_variance_are_orthonormal(count: int) -> None:
    found = pca(points_of(count), 5)
    np.testing.assert_allclose(found.components @ found.components.T, np.eye(5), atol=1e-9)
    assert (found.variances[count:] < 1e-9).all()
    identical = pca(torch.ones(count, 5, dtype=torch.float64), 2)
    assert identical.variances.tolist() == [0, 0]
    assert identical.projected.abs().sum() == 0


def test_compiled_pca_agrees(device: str, tmp_path: Path) -> None:
    assert_device_agrees(
        lambda x: pca(x, 2, iterations=20), lambda b: [points_of(b)], device, tmp_path,
        batches=(1, 8, 23), tolerance=2.0**-11,
    )  # fmt: skip


# ---------------------------------------------------------------- t-SNE


def scikit_learn_affinities(points: np.ndarray, perplexity: float) -> np.ndarray:
    squared = squareform(pdist(points, "sqeuclidean")).astype(np.float32)
    condensed = _t_sne._joint_probabilities(squared, perplexity, verbose=0)
    return squareform(condensed)


def test_affinities_are_those_of_scikit_learn() -> None:
    points = points_of(40)
    ours = tsne_affinities(points, perplexity=12.0)
    theirs = scikit_learn_affinities(points.numpy(), 12.0)
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * theirs.max())  # it stops at 1e-5
    assert math.isclose(ours.sum().item(), 1.0, rel_tol=1e-12)


def test_every_row_has_the_perplexity_asked_for() -> None:
    points = points_of(25) * 1e-4  # of any scale
    points[0] += 50
    joint = tsne_affinities(points, perplexity=6.0)
    squared = squareform(pdist(points.numpy(), "sqeuclidean"))
    for i in range(25):  # the bisection, row by row and unnormalised
        low, high = -60.0, 60.0
        d = np.delete(squared[i], i)
        for _ in range(200):
            middle = (low + high) / 2
            w = np.exp(-(d - d.min()) * math.exp(middle))
            p = w / w.sum()
            entropy = -(p[p > 0] * np.log(p[p > 0])).sum()
            low, high = (middle, high) if entropy > math.log(6.0) else (low, middle)
        row = np.insert(p, i, 0.0)
        joint[i] -= torch.from_numpy(row) / 50
        joint[:, i] -= torch.from_numpy(row) / 50
    assert joint.abs().max() < 1e-8


def test_a_perplexity_out_of_reach_and_identical_points_give_equal_probabilities() -> None:
    others = 1 - torch.eye(6, dtype=torch.float64)
    far = tsne_affinities(points_of(6), perplexity=30.0)
    np.testing.assert_allclose(far, others / 30, rtol=1e-9)
    same = tsne_affinities(torch.ones(6, 3, dtype=torch.float64), perplexity=3.0)
    np.testing.assert_allclose(same, others / 30, rtol=1e-12)
    assert tsne_affinities(points_of(1)).tolist() == [[0.0]]


def test_the_gradient_is_that_of_scikit_learn_and_of_autograd() -> None:
    p = tsne_affinities(points_of(30), perplexity=8.0)
    y = points_of(30, seed=4)[:, :2].clone().requires_grad_()
    gradient, divergence = tsne_gradient(p, y)
    (exact,) = torch.autograd.grad(divergence, y)
    np.testing.assert_allclose(gradient.detach(), exact, atol=1e-9 * exact.abs().max().item())
    condensed = squareform(p.numpy(), checks=False)
    kl, theirs = _t_sne._kl_divergence(y.detach().numpy().ravel(), condensed, 1, 30, 2)
    np.testing.assert_allclose(gradient.detach().numpy().ravel(), theirs, rtol=1e-9, atol=1e-12)
    assert math.isclose(divergence.item(), kl, rel_tol=1e-9)


def test_identical_places_have_a_finite_gradient() -> None:
    p = tsne_affinities(points_of(7))
    gradient, divergence = tsne_gradient(p, torch.zeros(7, 2, dtype=torch.float64))
    assert gradient.tolist() == [[0, 0]] * 7
    assert divergence.isfinite()
    alone = tsne_gradient(torch.zeros(1, 1), torch.zeros(1, 2))
    assert [t.tolist() for t in alone] == [[[0, 0]], 0]


def test_steps_lay_out_the_digits_so_that_neighbours_stay_neighbours() -> None:
    digits = torch.from_numpy(load_digits().data[:200])
    p = tsne_affinities(digits, perplexity=20.0)
    torch.manual_seed(0)
    y = torch.randn(200, 2, dtype=torch.float64) * 1e-4
    velocity, gains = torch.zeros_like(y), torch.ones_like(y)
    scalar = torch.tensor
    for k in range(400):
        early = k < 100
        step = tsne_step(
            p, y, velocity, gains, scalar(50.0),
            scalar(0.5 if early else 0.8), scalar(4.0 if early else 1.0),
        )  # fmt: skip
        y, velocity, gains = step.embedding, step.velocity, step.gains
    assert step.divergence < 0.6
    assert trustworthiness(digits.numpy(), y.numpy(), n_neighbors=10) > 0.96


def test_compiled_affinities_agree(device: str, tmp_path: Path) -> None:
    assert_device_agrees(
        lambda x: tsne_affinities(x, 4.0, bisections=24),
        lambda b: [points_of(b)], device, tmp_path, batches=(1, 4, 23), tolerance=2.0**-12,
    )  # fmt: skip


def test_a_compiled_t_sne_step_agrees(device: str, tmp_path: Path) -> None:
    def inputs(count: int) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(count)
        y, velocity = torch.randn(2, count, 2, generator=generator, dtype=torch.float64)
        gains = torch.rand(count, 2, generator=generator, dtype=torch.float64)
        scalars = [torch.tensor(v, dtype=torch.float64) for v in (20.0, 0.8, 4.0)]
        return [tsne_affinities(points_of(count), 3.0), y, velocity, gains, *scalars]

    assert_device_agrees(
        tsne_step, inputs, device, tmp_path,
        batched=((0, 1), True, True, True, False, False, False), batches=(1, 4, 23),
    )  # fmt: skip
