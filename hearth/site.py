"""What `hearth serve` serves: a page, a bundle under `/bundle/`, and data under `/data/`.

/                      the page: web/page, built, or a folder of your own
/bundle/manifest.json  and every file that the manifest lists, nothing else of the folder
/data/index.json       {name, mean, std, train, test}; a split is {count, x, y}: file names,
                       float32 inputs and int32 or float32 targets, little-endian and flat
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import numpy as np

from hearth.bundle.manifest import Manifest
from hearth.bundle.read import read_bundle
from hearth.data import Split, fit_to_program, load_dataset
from hearth.errors import InvalidInputError, StorageError

PAGE_FOLDER: Final = Path(__file__).resolve().parents[1] / "web" / "page" / "dist"

Routes = dict[str, Path | bytes]


def bundle_site(
    bundle: str | Path, *, data: str | Path | None = None, page: str | Path | None = None
) -> Routes:
    """The routes of a bundle with a page to train it; `data` as `load_dataset` takes it."""
    opened = read_bundle(bundle)
    folder = Path(page) if page is not None else PAGE_FOLDER
    if not (folder / "index.html").is_file():
        raise StorageError(
            f"there is no page {folder / 'index.html'}",
            remedy="scripts/setup builds it; or give a folder of your own with --page",
        )
    routes: Routes = {"/": folder}
    routes |= {f"/bundle/{name}": path for name, path in opened.paths().items()}
    if "train" in opened.manifest.programs:
        routes |= data_routes(opened.manifest, data)
    return routes


def data_routes(manifest: Manifest, source: str | Path | None) -> Routes:
    """A data set, in the shapes that the training program takes, as files under `/data/`."""
    dataset = fit_to_program(load_dataset(source), manifest.programs["train"])
    index: dict[str, object] = {
        "name": dataset.name, "mean": dataset.mean, "std": dataset.std,
    }  # fmt: skip
    routes: Routes = {}
    for name, split in (("train", dataset.train), ("test", dataset.test)):
        files = {f"{name}-{key}.bin": data for key, data in _split_files(split).items()}
        x, y = files
        index[name] = {"count": len(split), "x": x, "y": y}
        routes |= {f"/data/{file}": data for file, data in files.items()}
    return {"/data/index.json": json.dumps(index).encode(), **routes}


def _split_files(split: Split) -> dict[str, bytes]:
    """The bytes of a split as the page reads them; raises `InvalidInputError` for other dtypes."""
    targets = split.targets
    if split.inputs.dtype != np.float32 or targets.dtype not in (np.float32, np.int32, np.int64):
        raise InvalidInputError(
            f"the page cannot take {split.inputs.dtype} inputs with {targets.dtype} targets",
            why="its data files hold float32 inputs and int32 or float32 targets",
            remedy="train with `hearth train`, or serve a page that brings its own data",
        )
    narrow = targets.astype(np.int32) if targets.dtype == np.int64 else targets
    return {"x": split.inputs.tobytes(), "y": narrow.tobytes()}
