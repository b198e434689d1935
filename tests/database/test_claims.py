"""What is not claimed is refused in words; the list is exact and the page says the same."""

from __future__ import annotations

import pytest

from tests.database.cases import BACKWARD, DIRECTIONS, FORWARD
from tests.database.checks import check_refused, entries, names, quiet
from tests.database.claims import LIMITS, excluded, untested
from tests.database.page import PAGE, render

NOT_CLAIMED = [
    (name, direction)
    for direction in DIRECTIONS
    for name in names(entries, direction, claimed=False)
    if direction == FORWARD or name not in excluded(FORWARD)
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "direction"), NOT_CLAIMED)
def test_what_is_not_claimed_is_refused_in_words(name: str, direction: str) -> None:
    check_refused(name, direction)


def test_every_listed_name_exists_and_limits_are_of_claimed_names() -> None:
    listed = {*excluded(BACKWARD), *LIMITS, *untested()}
    assert listed <= set(entries()), sorted(listed - set(entries()))
    assert not set(LIMITS) & {*excluded(FORWARD), *untested()}


def test_the_page_is_what_the_claims_say() -> None:
    with quiet():
        assert PAGE.read_text(encoding="utf-8") == render(), "python -m tests.database.page"
