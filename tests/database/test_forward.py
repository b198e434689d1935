"""Every claimed operator computes what PyTorch computes, for every sample."""

from __future__ import annotations

import pytest

from tests.database.cases import FORWARD, operators
from tests.database.checks import check_works, names


@pytest.mark.slow
@pytest.mark.wasm
@pytest.mark.parametrize("name", names(operators, FORWARD, claimed=True))
def test_a_claimed_operator_works(name: str) -> None:
    check_works(name, FORWARD)
