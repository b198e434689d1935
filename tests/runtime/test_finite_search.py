"""The WebAssembly in web/runtime/src/finite.ts is what finite.wat says."""

from __future__ import annotations

import re
from pathlib import Path

import wasmtime

SOURCE = Path(__file__).parents[2] / "web" / "runtime" / "src"


def test_the_search_for_values_that_are_not_finite_is_its_text_form() -> None:
    literal = re.search(r'MODULE = "([^"]+)"', (SOURCE / "finite.ts").read_text())
    assert literal is not None
    stored = bytes.fromhex(literal[1].replace("\\\n", ""))
    assert stored == wasmtime.wat2wasm((SOURCE / "finite.wat").read_text())
