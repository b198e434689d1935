"""Writes a bundle folder: the compiler's files, the runtime, and the manifest that lists them.

The manifest is written last, so that a folder with a manifest is complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Final

from hearth.bundle.check_manifest import check_manifest
from hearth.bundle.manifest import FileEntry, Manifest
from hearth.bundle.read import MANIFEST_FILE, read_manifest
from hearth.bundle.typescript import trainer_types
from hearth.errors import StorageError

RUNTIME_FILE: Final = "hearth.js"
# hearth.js loads hearth-tools.js itself, when it first needs it.  hearth-data.js reads a person's
# data; a page that brings its own does not load it.
RUNTIME_FILES: Final = (
    RUNTIME_FILE,
    "hearth.d.ts",
    "hearth-tools.js",
    "hearth-data.js",
    "hearth-data.d.ts",
)
TYPES_FILE: Final = "trainer.d.ts"
RUNTIME_FOLDER: Final = Path(__file__).resolve().parents[2] / "web" / "runtime"


def write_bundle(
    path: str | Path, manifest: Manifest, files: Mapping[str, bytes], *, runtime: bool = True
) -> Manifest:
    """Writes a bundle and returns its manifest with `files` filled in.

    `files` are the compiler's (weights, code, golden step); the browser runtime and the types of
    this model are added here, unless `runtime` is false.  Files of an older bundle in the same
    folder that the new one does not have are removed.
    """
    everything = dict(files)
    if runtime:
        everything |= _runtime_files()
        everything[TYPES_FILE] = trainer_types(manifest).encode()
    entries = {n: FileEntry(len(d), sha256(d).hexdigest()) for n, d in sorted(everything.items())}
    complete = replace(manifest, files=entries)
    check_manifest(complete)
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_old(folder, keep=set(everything))
        for name, data in everything.items():
            (folder / name).write_bytes(data)
        (folder / MANIFEST_FILE).write_bytes(complete.to_bytes())
    except OSError as error:
        raise StorageError(f"cannot write the bundle {folder}", why=str(error)) from error
    return complete


def _runtime_files() -> dict[str, bytes]:
    folder = RUNTIME_FOLDER / "dist"
    try:
        return {name: (folder / name).read_bytes() for name in RUNTIME_FILES}
    except OSError as error:
        raise StorageError(
            f"the browser runtime in {folder} has not been built",
            remedy=f"run `npm ci && npm run build` in {RUNTIME_FOLDER}, or scripts/setup",
        ) from error


def _remove_old(folder: Path, keep: set[str]) -> None:
    """Removes the manifest and the files that it lists; nothing that is not ours."""
    if not (folder / MANIFEST_FILE).exists():
        return
    old = read_manifest(folder)
    (folder / MANIFEST_FILE).unlink()
    for name in set(old.files) - keep:
        (folder / name).unlink(missing_ok=True)
