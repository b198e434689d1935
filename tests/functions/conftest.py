from __future__ import annotations

import pytest


@pytest.fixture(params=[pytest.param(d, marks=getattr(pytest.mark, d)) for d in ("wasm", "webgpu")])
def device(request: pytest.FixtureRequest) -> str:
    return request.param
