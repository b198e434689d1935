"""docs/data.md: its examples run in a real Chromium, and it names everything there is."""

from __future__ import annotations

import base64
import io
import re
import struct
import zipfile

import pytest
from playwright.sync_api import Page

from tests.browser.pages import READ, ROOT, attempt

pytestmark = pytest.mark.chromium

PAGE = (ROOT / "docs" / "data.md").read_text()
# What the page takes as given.
GIVEN = """
const { DataLoader, ArrayDataset, augmented, split } = hearth;
const { imageFolder, readTable, idxDataset, openZip, trainTokenizer, tokenizerFrom, TextWindows,
  LabelledTexts, keepDataset, openDataset, listDatasets, removeDataset } = data;
const decoded = async (text) => (await fetch(`data:;base64,${text}`)).blob();
const file = "length,species\\n1,a\\n3,b\\n,a\\n", other = "species,length\\nb,5\\n";
const archive = await decoded(given.archive);
const imagesFile = await decoded(given.images), labelsFile = await decoded(given.labels);
const texts = ["one two", "two"], labels = [0, 1], text = "the cat, the dog, the end ".repeat(30);
const images = Object.assign(new ArrayDataset({ x: new Float32Array(8), y: new Int32Array(2),
  samples: 2 }), { classes: ["a", "b"] });
const loader = new DataLoader(images, { batchSize: 1 });
const trainer = { step: 0, manifest: { programs: { augment: { inputs: [] } } },
  run: async () => ({}) };  // of a bundle whose augmentation changes nothing
let shown = 0;
const show = (samples) => { shown = samples; };
"""


@pytest.fixture
def page(data_page: Page) -> Page:
    return data_page


@pytest.mark.parametrize(
    ("heading", "shown"),
    [
        (
            "Tables",
            ("[table.dataset.length, [...held.dataset.batch(Uint32Array.of(0)).x]]", [2, [3]]),
        ),
        ("IDX and zip", ("[digits.length, files.length, table.dataset.length]", [2, 1, 1])),
        (
            "Text",
            (
                "[windows.length > 0, reviews.length, reviews.padding === tokenizer.size]",
                [True, 2, True],
            ),
        ),
        ("Data sets that stay", ("[shown, again.about.classes]", [2, ["a", "b"]])),
    ],
)
def test_the_examples_of_the_page_run(
    page: Page, heading: str, shown: tuple[str, list[object]]
) -> None:
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    code = "".join(re.findall(r"```js\n(.*?)```", section, re.DOTALL))
    expression, wanted = shown
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/table.csv", "x\n1\n")
    given = {
        "archive": file.getvalue(),
        "images": struct.pack(">IIII4B", 0x803, 2, 1, 2, 0, 1, 2, 3),
        "labels": struct.pack(">II2B", 0x801, 2, 7, 1),
    }
    encoded = {name: base64.b64encode(body).decode() for name, body in given.items()}
    assert attempt(page, f"{READ}{GIVEN}{code}\nreturn {expression};", encoded) == wanted


def test_the_page_names_everything_that_the_module_exports(page: Page) -> None:
    names = attempt(page, READ + "return Object.keys(data);")
    assert [name for name in names if name not in PAGE] == []
