"""Data sets: what is read is what the files say, and malformed files are named."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from hearth.data import (
    Split,
    batches,
    enlarge,
    fit_to_program,
    load_dataset,
    load_digits,
    read_idx,
)
from hearth.errors import InvalidInputError, StorageError
from tests.bundle.samples import TRAIN


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype("u1").tobytes()


@pytest.fixture
def mnist_like(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for prefix, count in (("train", 12), ("t10k", 5)):
        images = random.integers(0, 256, (count, 28, 28))
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(np.arange(count) % 10))
    return tmp_path


def test_the_digits_are_split_normalised_and_always_the_same() -> None:
    digits = load_digits()
    assert digits.train.inputs.shape == (1438, 1, 28, 28)
    assert digits.test.inputs.shape == (359, 1, 28, 28)
    assert digits.train.inputs.dtype == np.float32
    assert digits.train.targets.dtype == np.int64
    assert abs(float(digits.train.inputs.mean())) < 1e-5
    assert abs(float(digits.train.inputs.std()) - 1) < 1e-5
    assert (digits.test.inputs == load_dataset("digits").test.inputs).all()


def test_enlarging_is_what_torch_calls_bilinear() -> None:
    images = np.random.default_rng(0).random((3, 8, 8)).astype("f4")
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(images)[:, None].double(), size=28, mode="bilinear"
    )
    assert np.abs(enlarge(images, 28) - wanted[:, 0].numpy()).max() < 1e-6


def test_mnist_is_read_zipped_or_not_and_normalised(mnist_like: Path) -> None:
    data = load_dataset(mnist_like)
    raw = read_idx(mnist_like / "train-images-idx3-ubyte.gz")
    assert data.train.inputs.shape == (12, 1, 28, 28)
    assert data.test.targets.tolist() == [0, 1, 2, 3, 4]
    back = data.train.inputs[:, 0].astype("f8") * data.std + data.mean
    assert np.abs(back - raw / 255).max() < 1e-6


def test_real_mnist_has_its_known_size(data_dir: Path) -> None:
    data = load_dataset(data_dir)
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    assert abs(float(data.train.inputs.mean())) < 1e-3
    assert np.bincount(data.train.targets).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip


def test_a_csv_may_have_a_header_and_whole_targets_become_labels(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b,label\n" + "".join(f"{i},{i / 2},{i % 3}\n" for i in range(10)))
    data = load_dataset(path)
    assert (len(data.train), len(data.test)) == (8, 2)
    assert data.train.inputs.shape == (8, 2)
    assert data.train.targets.dtype == np.int64
    path.write_text("1,0.5\n2,0.25\n")
    assert load_dataset(path).train.targets.dtype == np.float32


def test_an_npz_has_named_arrays(tmp_path: Path) -> None:
    x, y = np.zeros((10, 4), "f4"), np.arange(10) % 3
    np.savez(tmp_path / "a.npz", x=x, y=y)
    assert len(load_dataset(tmp_path / "a.npz").train) == 8
    np.savez(tmp_path / "b.npz", x_train=x, y_train=y, x_test=x[:3], y_test=y[:3])
    assert len(load_dataset(tmp_path / "b.npz").test) == 3


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("a.csv", b"1,2\n3\n", InvalidInputError, "a.csv:2 does not hold 2 numbers"),
        ("a.csv", b"1,2\n3,x\n", InvalidInputError, "a.csv:2 does not hold 2 numbers"),
        ("a.csv", b"", InvalidInputError, "no line with at least two columns"),
        ("a.csv", b"x,y\n", InvalidInputError, "no line with at least two columns"),
        ("a.csv", b"1,2\n", InvalidInputError, "not pairs of samples"),
        ("a.npz", b"no zip", InvalidInputError, "not a file of plain arrays"),
        ("a.txt", b"", InvalidInputError, "neither a folder"),
    ],
)
def test_a_malformed_file_is_named(
    tmp_path: Path, name: str, content: bytes, error: type[Exception], message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error) as caught:
        load_dataset(tmp_path / name)
    assert message in str(caught.value)


def test_missing_files_are_storage_errors(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="train-images-idx3-ubyte"):
        load_dataset(tmp_path)
    with pytest.raises(StorageError, match="No such file"):
        load_dataset(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "data",
    [b"", b"\0\0\7\1", b"\0\0\x08\1\0\0\0\5abc", b"\0\0\x08\1\0\0\0\1abc", b"\0\0\x08\3\0\0"],
)
def test_a_bad_idx_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(InvalidInputError):
        read_idx(tmp_path / "a")


def test_a_truncated_gzip_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx(np.zeros((100, 100))))[:-9])
    with pytest.raises(StorageError):
        read_idx(tmp_path / "a.gz")


def test_data_are_fitted_to_the_program_and_checked_before_anything_runs(tmp_path: Path) -> None:
    x, y = np.zeros((10, 2, 2)), np.arange(10, dtype="i4") % 3
    np.savez(tmp_path / "a.npz", x=x, y=y)
    fitted = fit_to_program(load_dataset(tmp_path / "a.npz"), TRAIN)
    assert fitted.train.inputs.shape == (8, 4)
    assert fitted.train.inputs.dtype == np.float32
    for bad_x, bad_y, message in (
        (np.zeros((10, 5)), y, "the model takes [B, 4]"),
        (np.full((10, 4), np.nan), y, "holds nan"),
        (np.zeros((10, 4)), y + 1, "holds 3"),
        (np.zeros((10, 4)), y.astype("f4"), "is float32, the model takes int64"),
    ):
        np.savez(tmp_path / "a.npz", x=bad_x, y=bad_y)
        with pytest.raises(InvalidInputError) as caught:
            fit_to_program(load_dataset(tmp_path / "a.npz"), TRAIN)
        assert message in str(caught.value)


def test_batches_cover_every_sample_once() -> None:
    split = Split(np.arange(10, dtype="f4")[:, None], np.arange(10))
    for random in (None, np.random.default_rng(1)):
        found = list(batches(split, 4, random))
        assert [len(y) for _, (y,) in found] == [4, 4, 2]
        assert sorted(int(v) for _, (y,) in found for v in y) == list(range(10))
        assert all((x[:, 0] == y).all() for (x,), (y,) in found)
