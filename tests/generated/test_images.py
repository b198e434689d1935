"""Random networks over images."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings

from tests.generated.agreement import check
from tests.generated.networks import Network, networks
from tests.generated.templates import IMAGES

INPUTS = (("float", ("B", 2, 7, 6)), ("float", ("B", 4)), ("int", ("B",)))

pytestmark = pytest.mark.skipif(
    "HEARTH_ALL_SAMPLES" not in os.environ, reason="HEARTH_ALL_SAMPLES=1 runs a thousand networks"
)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.wasm
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=300)
@given(network=networks(INPUTS, IMAGES, most_lines=7))
def test_a_random_network_over_images_has_pytorchs_gradients(network: Network) -> None:
    check(network)
