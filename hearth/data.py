"""Data sets for the command line and the demo: MNIST's IDX files, digits, CSV, NPZ.

Everything becomes NumPy arrays, split into train and test, with the normalisation written down:
a model is of use only with the numbers that its inputs were scaled with.  The default needs no
download: scikit-learn's 1,797 digits, 8×8, enlarged to MNIST's 28×28 by bilinear interpolation
(the coordinates of torch's `interpolate(align_corners=False)`).
"""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hearth.bundle.dtypes import NUMPY_DTYPES
from hearth.bundle.manifest import Input, Program
from hearth.errors import InvalidInputError, StorageError
from hearth.runtime.inputs import check_batch
from hearth.runtime.runner import Array, Batch

TEST_SHARE: Final = 0.2
SPLIT_SEED: Final = 0
MNIST_MEAN: Final = 0.1307  # of the 60,000 training images, in [0, 1]
MNIST_STD: Final = 0.3081

_IDX_DTYPES: Final = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_MNIST_FILES: Final = (
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)


@dataclass(frozen=True, slots=True)
class Split:
    """Inputs and targets with the samples along dimension 0."""

    inputs: Array
    targets: Array

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Inputs are `(raw - mean) / std`; `mean` 0 and `std` 1 where nothing was scaled."""

    name: str
    train: Split
    test: Split
    mean: float = 0.0
    std: float = 1.0


def load_dataset(source: str | Path | None = None) -> Dataset:
    """The data at `source`: a folder of IDX files, a .npz, a .csv, or "digits".

    The default is the environment variable HEARTH_DATA, else the digits.
    Raises `StorageError` where a file cannot be read, `InvalidInputError` where it is malformed.
    """
    source = source or os.environ.get("HEARTH_DATA") or "digits"
    if str(source) == "digits":
        return load_digits()
    path = Path(source)
    if path.is_dir():
        return load_mnist(path)
    readers = {".npz": load_npz, ".csv": load_csv}
    if path.suffix not in readers:
        raise InvalidInputError(
            f"there is no data in {path}",
            why="it is neither a folder with MNIST's IDX files nor a .npz or .csv file",
        )
    try:
        return readers[path.suffix](path)
    except OSError as error:
        raise StorageError(f"cannot read {path}", why=error.strerror or str(error)) from error


def load_mnist(folder: Path) -> Dataset:
    """The four IDX files of MNIST (or a set like it), gzip or not, in `folder` or its `mnist/`."""
    folder = folder / "mnist" if (folder / "mnist").is_dir() else folder
    splits = []
    for images, labels in _MNIST_FILES:
        pixels = read_idx(_find_idx(folder, images))
        targets = read_idx(_find_idx(folder, labels)).astype(np.int64)
        if pixels.ndim != 3 or len(pixels) != len(targets):
            raise InvalidInputError(f"{folder}: {images} and {labels} do not belong together")
        scaled = (pixels.astype(np.float32) / 255 - MNIST_MEAN) / MNIST_STD
        splits.append(Split(scaled[:, None].astype(np.float32), targets))
    return Dataset("MNIST", splits[0], splits[1], MNIST_MEAN, MNIST_STD)


def load_digits() -> Dataset:
    """scikit-learn's digits (test set of the UCI "Optical Recognition" data), 28×28 in [0, 1]."""
    from sklearn import datasets

    found = datasets.load_digits()
    images = enlarge(found.images.astype(np.float32) / 16, 28)[:, None]
    train, test = _split(images, found.target.astype(np.int64))
    mean, std = float(train.inputs.mean()), float(train.inputs.std())
    for split in (train, test):
        split.inputs[:] = (split.inputs - np.float32(mean)) / np.float32(std)
    return Dataset("digits of scikit-learn, enlarged to 28×28", train, test, mean, std)


def load_npz(path: Path) -> Dataset:
    """Arrays `x_train, y_train, x_test, y_test`, or `x, y`, which are split; nothing is scaled."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except ValueError as error:
        raise InvalidInputError(f"{path} is not a file of plain arrays", why=str(error)) from error
    if {"x_train", "y_train", "x_test", "y_test"} <= arrays.keys():
        train = Split(arrays["x_train"], arrays["y_train"])
        return Dataset(path.name, train, Split(arrays["x_test"], arrays["y_test"]))
    if {"x", "y"} <= arrays.keys():
        return Dataset(path.name, *_split(arrays["x"], arrays["y"]))
    raise InvalidInputError(
        f"{path} has the arrays {', '.join(arrays) or 'none'}",
        remedy="name them x_train, y_train, x_test, y_test, or x and y",
    )


def load_csv(path: Path) -> Dataset:
    """One sample per line: numbers, the last one is the target; a first line of names may be there.

    Targets that are all whole numbers become int64 labels, others stay float32.
    """
    with path.open(newline="") as file:
        rows = [(number, row) for number, row in enumerate(csv.reader(file), 1) if row]
    if rows and not _is_number(rows[0][1][0]):
        rows = rows[1:]
    if not rows or len(rows[0][1]) < 2:
        raise InvalidInputError(f"{path} has no line with at least two columns")
    width = len(rows[0][1])
    table = np.empty((len(rows), width), np.float64)
    for index, (number, row) in enumerate(rows):
        if len(row) != width or not all(_is_number(cell) for cell in row):
            raise InvalidInputError(f"{path}:{number} does not hold {width} numbers")
        table[index] = [float(cell) for cell in row]
    last = table[:, -1]
    whole = bool(np.isfinite(last).all() and (last == np.floor(last)).all())
    targets = last.astype(np.int64) if whole else last.astype(np.float32)
    return Dataset(path.name, *_split(table[:, :-1].astype(np.float32), targets))


def read_idx(path: Path) -> Array:
    """The array in an IDX file (magic, big-endian sizes, row-major elements), gzip or not."""
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError) as error:
        raise StorageError(f"cannot read {path}", why=str(error)) from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _IDX_DTYPES:
        raise InvalidInputError(f"{path} is not an IDX file")
    count, dtype = data[3], np.dtype(_IDX_DTYPES[data[2]])
    sizes, body = data[4 : 4 + 4 * count], data[4 + 4 * count :]
    shape = tuple(int(v) for v in np.frombuffer(sizes[: len(sizes) // 4 * 4], ">u4"))
    if len(shape) != count or len(body) != int(np.prod(shape)) * dtype.itemsize:
        raise InvalidInputError(f"{path} is truncated, or has surplus bytes")
    return np.frombuffer(body, dtype).reshape(shape)


def enlarge(images: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Square images [N, s, s] as [N, size, size], bilinear; borders repeat."""
    weights = _interpolation(images.shape[1], size)
    enlarged: NDArray[np.float64] = np.einsum("is,nst,jt->nij", weights, images, weights)
    return enlarged.astype(np.float32)


def fit_to_program(dataset: Dataset, program: Program) -> Dataset:
    """The data in the shapes and dtypes that a program takes, checked before anything runs.

    Samples are reshaped where the number of values agrees (images for an MLP, or back).
    """
    inputs = [i for i in program.inputs if i.role == "input"]
    targets = [i for i in program.inputs if i.role == "target"]
    if len(inputs) != 1 or len(targets) != 1:
        raise InvalidInputError(
            f"the model takes {len(inputs)} inputs and {len(targets)} targets",
            remedy="train it from Python or JavaScript: this command feeds one of each",
        )
    splits = []
    for name, split in (("train", dataset.train), ("test", dataset.test)):
        fitted = Split(_fit(inputs[0], split.inputs), _fit(targets[0], split.targets))
        if len(fitted.inputs) != len(fitted.targets) or not len(fitted):
            raise InvalidInputError(
                f"the {name} split of {dataset.name} has {len(fitted.inputs)} inputs "
                f"and {len(fitted.targets)} targets"
            )
        check_batch(program, (fitted.inputs,), (fitted.targets,))
        splits.append(fitted)
    return replace(dataset, train=splits[0], test=splits[1])


def batches(
    split: Split, batch_size: int, random: np.random.Generator | None = None
) -> Iterator[Batch]:
    """Consecutive batches of a split, shuffled if `random` is given; the last may be smaller."""
    order = np.arange(len(split)) if random is None else random.permutation(len(split))
    for start in range(0, len(split), batch_size):
        rows = order[start : start + batch_size]
        yield (split.inputs[rows],), (split.targets[rows],)


def _fit(entry: Input, array: Array) -> Array:
    wanted = NUMPY_DTYPES[entry.dtype]
    if array.dtype.kind in "fiu" and wanted.kind == "f":
        array = array.astype(wanted)
    rest = entry.shape[1:]
    if not all(extent.is_static for extent in rest):
        return array
    shape = tuple(extent.static for extent in rest)
    same_size = array.ndim > 0 and np.prod(array.shape[1:]) == np.prod(shape)
    return array.reshape(len(array), *shape) if same_size else array


def _split(inputs: Array, targets: Array) -> tuple[Split, Split]:
    if inputs.ndim == 0 or targets.ndim == 0 or len(inputs) != len(targets) or len(inputs) < 2:
        raise InvalidInputError(
            f"inputs {inputs.shape} and targets {targets.shape} are not pairs of samples"
        )
    order = np.random.default_rng(SPLIT_SEED).permutation(len(inputs))
    count = max(1, round(len(inputs) * TEST_SHARE))
    test, train = order[:count], order[count:]
    return Split(inputs[train], targets[train]), Split(inputs[test], targets[test])


def _interpolation(old: int, new: int) -> NDArray[np.float64]:
    """The matrix [new, old] of bilinear interpolation along one axis."""
    position = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    low = np.minimum(np.floor(position).astype(int), old - 2)
    share = position - low
    matrix = np.zeros((new, old))
    matrix[np.arange(new), low] = 1 - share
    matrix[np.arange(new), low + 1] = share
    return matrix


def _find_idx(folder: Path, name: str) -> Path:
    # Both spellings are in use: the original files have a dash, some copies a dot.
    for spelling in (name, name.replace("-idx", ".idx")):
        for suffix in ("", ".gz"):
            if (folder / (spelling + suffix)).is_file():
                return folder / (spelling + suffix)
    raise StorageError(
        f"{folder} has no {name} (or {name}.gz)", remedy="give a folder with MNIST's four files"
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
