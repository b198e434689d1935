"""A fixed tenth of all samples of what is claimed, on WebGPU."""

from __future__ import annotations

import pytest

from tests.database.cases import DIRECTIONS
from tests.database.checks import check_tenth_on_webgpu, entries, names

SHARDS = 24


@pytest.mark.slow
@pytest.mark.webgpu
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_tenth_of_what_is_claimed_works(shard: int, direction: str) -> None:
    check_tenth_on_webgpu(direction, names(entries, direction, claimed=True)[shard::SHARDS])
