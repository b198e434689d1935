"""A thousand random networks have PyTorch's outputs and gradients.

A run of the suite takes a tenth of them, HEARTH_ALL_SAMPLES=1 takes all.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings

from tests.generated.agreement import check
from tests.generated.networks import Network, Shape, Template, networks
from tests.generated.templates import EVERYWHERE, IMAGES, SEQUENCES

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
