"""Reads a bundle folder, and refuses one whose files are not what its manifest says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hearth.bundle.check_manifest import check_manifest
from hearth.bundle.dtypes import NUMPY_DTYPES
from hearth.bundle.files import read_file
from hearth.bundle.manifest import Manifest
from hearth.bundle.safetensors import decode_safetensors
from hearth.bundle.weights import decode_weights, weights_of
from hearth.errors import BundleFormatError, StorageError

Array = NDArray[Any]

MANIFEST_FILE: Final = "manifest.json"
WEIGHTS_FILE: Final = "weights.safetensors"
CONSTANTS_FILE: Final = "constants.safetensors"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A folder and its checked manifest; files are read, and verified, when they are asked for."""

    path: Path
    manifest: Manifest

    def file(self, name: str) -> bytes:
        """The verified bytes of one file."""
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleFormatError(f"{self.path} has no file {name!r}")
        data = read_file(self.path / name)
        if len(data) != entry.bytes:
            raise BundleFormatError(
                f"{self.path / name} has {len(data)} bytes, the manifest says {entry.bytes}",
                why="the copy or the download was cut short",
                remedy="copy or compile the bundle again",
            )
        if sha256(data).hexdigest() != entry.sha256:
            raise BundleFormatError(
                f"{self.path / name} is not the file that was compiled (SHA-256 differs)",
                remedy="copy or compile the bundle again",
            )
        return data

    def paths(self) -> dict[str, Path]:
        """The manifest and every file that it lists: all that a browser may ask for."""
        return {name: self.path / name for name in (MANIFEST_FILE, *self.manifest.files)}

    def initial_state(self) -> dict[str, Array]:
        """The initial value of every state entry, by name, in file dtypes; zeros by default."""
        values = self.weights()
        if CONSTANTS_FILE in self.manifest.files:
            constants = decode_safetensors(self.file(CONSTANTS_FILE), CONSTANTS_FILE)
            values |= constants.tensors
        state = {}
        for entry in self.manifest.state:
            value = values.get(entry.name, np.zeros(entry.shape, NUMPY_DTYPES[entry.dtype]))
            if value.shape != entry.shape or value.dtype != NUMPY_DTYPES[entry.dtype]:
                raise BundleFormatError(f"{CONSTANTS_FILE}: {entry.name!r} has a wrong shape")
            state[entry.name] = value
        return state

    def weights(self) -> dict[str, Array]:
        """The initial weights under their state_dict keys."""
        expected = weights_of(self.manifest.state)
        return decode_weights(expected, self.file(WEIGHTS_FILE), WEIGHTS_FILE) if expected else {}

    def verify_files(self) -> None:
        """Reads and verifies every file."""
        for name in self.manifest.files:
            self.file(name)


def read_bundle(path: str | Path) -> Bundle:
    """The bundle in a folder; raises `BundleFormatError` or `StorageError`."""
    folder = Path(path)
    return Bundle(folder, read_manifest(folder))


def read_manifest(folder: Path) -> Manifest:
    """The checked manifest of a bundle folder."""
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise StorageError(
            f"{folder} is not a bundle: there is no {MANIFEST_FILE}",
            remedy="make one with `hearth compile MODULE:FUNCTION -o DIR`",
        )
    try:
        value = json.loads(read_file(path))
    except (ValueError, RecursionError) as error:
        raise BundleFormatError(f"{path} is not JSON", why=str(error)) from error
    manifest = Manifest.from_json(value, str(path))
    check_manifest(manifest, str(path))
    return manifest
