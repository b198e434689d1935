"""The check of modules that are not run: Chromium's compiler refuses more than wgpu's."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from tests.browser.tint import gpu_page, messages

pytestmark = pytest.mark.chromium

MODULE = """
@group(0) @binding(0) var<storage, read_write> x: array<u32>;
@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
  let limit = LIMIT;
  for (var i = 0u; i < limit; i++) { workgroupBarrier(); }
  x[lane] = limit;
}
"""


def test_a_barrier_that_not_all_invocations_reach_is_refused(browser: Browser) -> None:
    modules = {name: MODULE.replace("LIMIT", name) for name in ("4u", "lane", "x[0]", "undefined")}
    with gpu_page(browser) as page:
        said = "\n".join(messages(page, modules))
    assert "4u: " not in said
    assert "lane: 'workgroupBarrier' must only be called from uniform control flow" in said
    assert "x[0]: 'workgroupBarrier' must only be called from uniform control flow" in said
    assert "undefined: unresolved value 'undefined'" in said
