"""Every claimed operator has the gradients of PyTorch, for every sample."""

from __future__ import annotations

import pytest

from tests.database.cases import BACKWARD, operators
from tests.database.checks import check_works, names


@pytest.mark.slow
@pytest.mark.wasm
@pytest.mark.parametrize("name", names(operators, BACKWARD, claimed=True))
def test_a_claimed_operator_has_pytorchs_gradients(name: str) -> None:
    check_works(name, BACKWARD)
