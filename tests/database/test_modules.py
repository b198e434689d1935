"""Every claimed module works, trains, and updates its buffers as in PyTorch."""

from __future__ import annotations

import pytest

from tests.database.cases import DIRECTIONS, modules
from tests.database.checks import check_works, names

CLAIMED = [(name, d) for d in DIRECTIONS for name in names(modules, d, claimed=True)]


@pytest.mark.slow
@pytest.mark.wasm
@pytest.mark.parametrize(("name", "direction"), CLAIMED)
def test_a_claimed_module_works(name: str, direction: str) -> None:
    check_works(name, direction)
