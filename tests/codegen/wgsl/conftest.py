from __future__ import annotations

import pytest

from tests.codegen.wgsl.adapter import Adapter


@pytest.fixture(scope="session")
def adapter() -> Adapter:
    return Adapter()
