"""Random networks over vectors, sequences and whole numbers."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings

from tests.generated.agreement import check
from tests.generated.networks import Network, networks
from tests.generated.templates import EVERYWHERE, SEQUENCES

VECTORS = (("float", ("B", 5)), ("float", ("B", 1)), ("int", ("B",)))
ROWS = (("float", ("B", 3, 7)), ("float", ("B", 7, 2)), ("int", ("B", 7)))

pytestmark = pytest.mark.skipif(
    "HEARTH_ALL_SAMPLES" not in os.environ, reason="HEARTH_ALL_SAMPLES=1 runs a thousand networks"
)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.wasm
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=400)
@given(network=networks(VECTORS, EVERYWHERE))
def test_a_random_network_over_vectors_has_pytorchs_gradients(network: Network) -> None:
    check(network)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.wasm
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=300)
@given(network=networks(ROWS, SEQUENCES))
def test_a_random_network_over_sequences_has_pytorchs_gradients(network: Network) -> None:
    check(network)
