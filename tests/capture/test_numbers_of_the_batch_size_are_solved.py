"""Literals that differ between traces become exact functions of the batch size, or an error."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hearth.capture.random import philox, replay_random, uniform
from hearth.capture.unify import solve_float, solve_integer
from hearth.ir.dim import B, Dim
from hearth.steps.function import capture_function

BATCHES = (7, 11, 17)
SMALL = st.integers(1, 10_000)


@given(SMALL, st.integers(-50, 10_000))
def test_affine_integers_are_found(a: int, b: int) -> None:
    assert solve_integer([a * n + b for n in BATCHES], BATCHES) == a * B + b


@given(SMALL)
def test_squares_and_constants_are_found(a: int) -> None:
    assert solve_integer([a * n * n for n in BATCHES], BATCHES) == a * (B * B)
    assert solve_integer([a] * 3, BATCHES) == a


@pytest.mark.parametrize("values", [(7, 11, 18), (1, 2, 4), (49, 121, 290), (1, 2, 3)])
def test_other_integers_are_refused(values: tuple[int, ...]) -> None:
    assert solve_integer(values, BATCHES) is None


@given(SMALL, st.integers(-6, 1000))
def test_reciprocals_of_counts_are_exact(a: int, b: int) -> None:
    found = solve_float([1 / (a * n + b) for n in BATCHES], BATCHES)
    assert found is not None
    assert (found.scale, found.numerator, found.denominator) == (1.0, Dim.of(1), a * B + b)


@given(st.floats(1e-6, 1e6), SMALL)
def test_scaled_forms_hold_at_every_batch_size(scale: float, a: int) -> None:
    for form in (lambda n: scale / (a * n), lambda n: scale * a * n, lambda n: scale / (a * n * n)):
        found = solve_float([form(n) for n in BATCHES], BATCHES)
        assert found is not None
        assert all(found.at(n) == pytest.approx(form(n), rel=1e-12) for n in (1, 2, 33, 1000))


@pytest.mark.parametrize(
    "function", [lambda n: n**0.5, lambda n: 1 / (n + 0.3), lambda n: 0.3 * n + 1]
)
def test_other_floats_are_refused(function: object) -> None:
    assert callable(function)
    assert solve_float([function(n) for n in BATCHES], BATCHES) is None


def test_philox_gives_the_published_words() -> None:
    """Known answers of Random123, kat_vectors, philox4x32 10."""
    zero = torch.zeros(1, dtype=torch.int64)
    ones = zero + 0xFFFFFFFF
    digits = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0]
    pi = [zero + d for d in digits]
    known = [
        ((zero,) * 4, (zero, zero), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((ones,) * 4, (ones, ones), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (tuple(pi[:4]), (pi[4], pi[5]), "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ]
    for counter, key, words in known:
        assert " ".join(f"{int(w):08x}" for w in philox(counter, key)) == words


def test_uniform_numbers_depend_on_seed_step_stream_and_element_only() -> None:
    seed, step = torch.tensor([5, 6]), torch.tensor(2)
    draws = uniform(seed, step, (1000,), 3)
    assert torch.equal(draws[:37], uniform(seed, step, (37,), 3))
    assert torch.equal(draws.reshape(10, 100), uniform(seed, step, (10, 100), 3))
    for other in (uniform(seed, step + 1, (1000,), 3), uniform(seed, step, (1000,), 4)):
        assert not torch.equal(draws, other)
    assert draws.min() >= 0
    assert draws.max() < 1
    assert abs(draws.mean().item() - 0.5) < 0.05


def test_replayed_masks_are_the_same_in_every_precision_and_scale_what_they_keep() -> None:
    for p in (0.1, 0.5, 0.6, 0.9):
        masks = []
        for dtype in (torch.float32, torch.float64):
            with replay_random(99, 4):
                masks.append(torch.nn.functional.dropout(torch.ones(4099, dtype=dtype), p))
        assert torch.equal(masks[0] > 0, masks[1] > 0)
        kept = masks[1][masks[1] > 0]
        assert torch.allclose(kept, torch.full_like(kept, 1 / (1 - p)))
        assert abs(len(kept) / 4099 - (1 - p)) < 0.03


@pytest.mark.parametrize("scatters", [False, True])
def test_a_dense_strided_view_of_the_batch_is_a_permutation(scatters: bool) -> None:
    """PyTorch's gradients make such views; a table of indices would be of the batch's size."""

    def transposed(x: torch.Tensor) -> torch.Tensor:
        size, stride = (len(x), 4, 3), (12, 1, 4)
        if scatters:
            return torch.as_strided_scatter(torch.zeros_like(x), x.mT, size, stride)
        return torch.as_strided(x.clone(), size, stride)

    graph = capture_function(transposed, torch.randn(2, 3, 4), batched=True)
    assert not graph.constants
    assert any(node.target == "aten.permute.default" for node in graph.nodes)
