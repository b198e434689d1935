"""The README's three blocks, run as they stand: Python, the browser, and Python again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import sync_playwright

from hearth.runtime.browser import find_browser, launch_flags
from hearth.serve import Server

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)

BEFORE = """
const images = new Float32Array(32 * 784).fill(0.5), labels = new Int32Array(32).fill(7);
"""
AFTER = """
await fetch("/blob/weights", { method: "POST", body: weights });
document.title = `loss ${trainer.history.losses[0]}`;
"""


def test_the_readme_has_the_blocks_that_are_run() -> None:
    assert [kind for kind, _ in BLOCKS] == ["python", "js", "python"]


@pytest.mark.chromium
def test_the_example_of_the_readme_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(BLOCKS[0][1], names)
    before = {k: v.clone() for k, v in names["model"].state_dict().items()}

    imports, rest = BLOCKS[1][1].split("\n", 1)
    script = f'<script type="module">{imports}{BEFORE}{rest}{AFTER}</script>'
    blobs: dict[str, bytes] = {}
    routes: dict[str, Path | bytes] = {"/index.html": script.encode(), "/dist/": tmp_path / "dist"}
    with Server(routes, blobs=blobs) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_browser(playwright.chromium.executable_path),
            headless=False,
            args=["--headless=new", *launch_flags("wasm", software_gpu=True)],
        )
        page = browser.new_page()
        page.goto(f"{server.url}index.html")
        page.wait_for_function("document.title.startsWith('loss')")
        loss = float(page.title().removeprefix("loss "))
        browser.close()

    (tmp_path / "trained.safetensors").write_bytes(blobs["weights"])
    images, labels = torch.full((32, 784), 0.5), torch.full((32,), 7)
    expected = names["step"].loss(names["model"](images), labels)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    exec(BLOCKS[2][1], names)
    after = names["model"].state_dict()
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_the_commands_of_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text()
    for script in re.findall(r"scripts/\w+", text):
        assert (ROOT / script).is_file()
    from hearth.cli import _parser

    shown = _parser().format_help()
    for command in re.findall(r"^    hearth (\w+)", text, re.M):
        assert re.search(rf"^    {command}\b", shown, re.M)
