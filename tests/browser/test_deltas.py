"""A browser sends what its training has changed, and Python adds it to the weights from before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page

import hearth
from tests.browser.pages import BATCH, GIVEN, attempt

pytestmark = pytest.mark.chromium

BODY = (
    BATCH
    + """
    const trainer = await Trainer.load("/bundle/", { backend: given.backend, threads: 1 });
    await trainer.trainBatch(x, y);
    const [before, run] = [await trainer.exportWeights(), await trainer.exportCheckpoint()];
    for (let i = 0; i < 20; i++) await trainer.trainBatch(x, y);
    const deltas = [await trainer.exportDelta(before), await trainer.exportDelta(run)];
    const after = await trainer.exportWeights();
    await trainer.dispose();
    return { before, run, after, delta: deltas[0], fromRun: deltas[1] };"""
)
LISTS = f"""
const files = await (async () => {{{BODY}}})();
return Object.fromEntries(Object.entries(files).map(([name, file]) => [name, [...file]]));
"""


@pytest.mark.parametrize("backend", ["wasm", "webgpu"])
def test_a_delta_of_a_browser_leads_to_its_weights(
    bare_page: Page, tmp_path: Path, backend: str
) -> None:
    files = attempt(bare_page, LISTS, GIVEN | {"backend": backend})
    for name, file in files.items():
        (tmp_path / name).write_bytes(bytes(file))
    for base, delta in [("before", "delta"), ("run", "fromRun")]:
        hearth.save_delta(tmp_path / base, tmp_path / "after", tmp_path / "ours")
        assert (tmp_path / delta).read_bytes() == (tmp_path / "ours").read_bytes()
    before = hearth.load_weights(tmp_path / "before")
    moved = hearth.apply_delta(before, tmp_path / "delta")
    after = hearth.load_weights(tmp_path / "after")
    assert list(moved) == list(after)
    exact = 0
    for name, tensor in after.items():
        ours, theirs, old = (t.double().numpy() for t in (moved[name], tensor, before[name]))
        assert moved[name].dtype == tensor.dtype
        # Each of the two operations rounds once; not at all where the numbers are close together.
        bound = 2**-24 * (np.abs(theirs - old) + np.abs(theirs)) * (1 + 1e-6)
        assert (np.abs(ours - theirs) <= bound).all()
        close = (old * theirs > 0) & (np.abs(old) <= 2 * np.abs(theirs))
        close &= np.abs(theirs) <= 2 * np.abs(old)
        np.testing.assert_array_equal(ours[close], theirs[close])
        exact += int(close.sum())
        assert not np.array_equal(old, theirs)
    assert exact >= 4
