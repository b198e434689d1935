"""A thousand random networks have PyTorch's outputs and gradients.

A run of the suite takes a tenth of them, HEARTH_ALL_SAMPLES=1 takes all.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.generated.agreement import check
from tests.generated.networks import BATCH_SIZES, Network, Shape, Template, Writer, networks
from tests.generated.templates import EVERYWHERE, IMAGES, SEQUENCES, reduction

SHARE = 1 if os.environ.get("HEARTH_ALL_SAMPLES") else 10


@dataclass(frozen=True)
class Kind:
    count: int
    inputs: tuple[tuple[str, Shape], ...]
    templates: Sequence[Template]
    most_lines: int = 10


KINDS = {
    "vectors": Kind(400, (("float", ("B", 5)), ("float", ("B", 1)), ("int", ("B",))), EVERYWHERE),
    "sequences": Kind(
        300, (("float", ("B", 3, 7)), ("float", ("B", 7, 2)), ("int", ("B", 7))), SEQUENCES
    ),
    "images": Kind(
        300, (("float", ("B", 2, 7, 6)), ("float", ("B", 4)), ("int", ("B",))), IMAGES, 7
    ),
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.wasm
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KINDS)
def test_random_networks_have_pytorchs_gradients(name: str) -> None:
    kind = KINDS[name]

    @settings(max_examples=kind.count // SHARE)
    @given(network=networks(kind.inputs, kind.templates, kind.most_lines))
    def agrees(network: Network) -> None:
        check(network)

    agrees()


@given(st.data())
def test_no_network_multiplies_over_the_batch(data: st.DataObject) -> None:
    """Hearth refuses its gradient, for a batch of one."""
    square = tuple(torch.ones(batch, batch) for batch in BATCH_SIZES)
    rows = tuple(torch.ones(batch, 5) for batch in BATCH_SIZES)
    writer = Writer(data.draw, {"square": square, "rows": rows})
    written = reduction(writer)
    assert not written.startswith("square.prod")
    assert "rows.prod" not in written or "dim=1" in written or "dim=-1" in written
