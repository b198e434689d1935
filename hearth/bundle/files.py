"""Bytes from and to files, with errors that name the file."""

from __future__ import annotations

from pathlib import Path

from hearth.errors import StorageError


def read_file(path: str | Path) -> bytes:
    """The bytes of a file; raises `StorageError`."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {path}", why=error.strerror or str(error)) from error


def write_file(path: str | Path, data: bytes) -> None:
    """Writes a file; raises `StorageError`."""
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise StorageError(f"cannot write {path}", why=error.strerror or str(error)) from error
