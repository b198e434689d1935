"""Histograms of tensors: what makes them comparable from step to step."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from hearth.functions.statistics import BINS, STATISTICS, describe

DOUBLINGS = 3
# Edges of bins and powers of two, where a count could land on either side, and what lies between.
ELEMENTS = st.one_of(st.integers(-256, 256).map(lambda k: k / 64), st.floats(-4, 4, width=32))


@given(st.lists(ELEMENTS, min_size=1, max_size=40))
def test_neighbouring_bins_are_one_bin_of_the_double_range(elements: list[float]) -> None:
    x = torch.tensor(elements)
    found = describe(x)
    limit, counts = found.statistics[STATISTICS.index("limit")].item(), found.histogram
    for _ in range(DOUBLINGS):
        limit, counts = 2 * limit, merged(counts)
        bins = (x.double() * (BINS / 2 / limit)).floor().long() + BINS // 2
        assert counts.tolist() == bins.bincount(minlength=BINS).tolist()


def merged(counts: torch.Tensor) -> torch.Tensor:
    """The middle of the double range has all counts; a bin of it has two neighbours'."""
    outside = counts.new_zeros(BINS // 4)
    return torch.cat([outside, counts.reshape(-1, 2).sum(1), outside])
