"""A compiled bundle and data that it can learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hearth.cli import main
from tests.cli.small_step import STEP


@pytest.fixture(scope="package")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "dist"
    assert main(["compile", f"{STEP}:small", "-o", str(folder)]) == 0
    return folder


@pytest.fixture(scope="package")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 200)
    centres = np.array([[0, 2], [2, -1], [-2, -1]], "f4")
    x = (centres[labels] + 0.3 * random.normal(size=(200, 2))).astype("f4")
    path = tmp_path_factory.mktemp("data") / "points.npz"
    np.savez(path, x=x, y=labels)
    return path
