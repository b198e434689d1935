"""Batches are checked before a device sees them, with the same words on every backend."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearth.bundle.manifest import Input, Program
from hearth.errors import InvalidInputError
from hearth.ir.dim import B, Dim, shape_of
from hearth.runtime.inputs import batch_of, check_batch, file_arrays

PROGRAM = Program(
    inputs=(
        Input("image", "input", "float32", shape_of((B, 4)), 0),
        Input("pair", "input", "int32", shape_of((2 * B + 1, 3)), 1),
        Input("label", "target", "int64", shape_of((B,)), 2, range=(0, 10), except_=-100),
        Input("mask", "target", "bool", shape_of((B,)), 3),
        Input("learning_rate", "hyper", "float32", shape_of((1,)), 4),
    ),
    outputs=(),
    slots=(),
    steps=(),
)


def good(batch: int) -> list[np.ndarray]:
    return [
        np.ones((batch, 4), "f4"),
        np.ones((2 * batch + 1, 3), "i4"),
        np.zeros(batch, "i8"),
        np.ones(batch, "?"),
    ]


def check(arrays: list[Any]) -> Any:
    return check_batch(PROGRAM, tuple(arrays[:2]), tuple(arrays[2:]))


@given(st.integers(1, 100))
def test_the_batch_size_follows_from_the_shapes(batch: int) -> None:
    checked = check(good(batch))
    assert checked.batch == batch
    assert list(checked.arrays) == [0, 1, 2, 3]


def test_every_element_takes_four_bytes_on_the_device() -> None:
    arrays = check(good(3)).arrays
    assert [a.dtype.name for a in arrays.values()] == ["float32", "int32", "int32", "int32"]
    assert arrays[3].tolist() == [1, 1, 1]
    assert all(a.flags.c_contiguous for a in arrays.values())


def test_the_ignored_index_and_the_ends_of_the_range_are_admitted() -> None:
    arrays = good(3)
    arrays[2] = np.array([-100, 0, 9])
    assert check(arrays).arrays[2].tolist() == [-100, 0, 9]


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "u8"])
def test_integers_of_another_width_are_converted_without_loss(dtype: str) -> None:
    arrays = good(3)
    arrays[2] = np.array([1, 2, 3], dtype)
    assert check(arrays).arrays[2].tolist() == [1, 2, 3]


def changed(index: int, value: Any) -> list[Any]:
    arrays = good(3)
    arrays[index] = value
    return arrays


NAN_AT = np.ones((3, 4), "f4")
NAN_AT[1, 2] = np.nan


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (good(3)[:1], "1 inputs given, the program takes 2 (image, pair)"),
        ([], "0 inputs given"),
        (good(3)[:3], "1 targets given, the program takes 2 (label, mask)"),
        (changed(0, np.ones((3, 5), "f4")), "'image' has shape [3, 5], the model takes [B, 4]"),
        (changed(0, np.ones((3, 4, 1), "f4")), "'image' has shape [3, 4, 1]"),
        (changed(0, np.ones(12, "f4")), "'image' has shape [12]"),
        (changed(0, np.ones((), "f4")), "'image' has shape []"),
        (changed(0, np.ones((0, 4), "f4")), "a batch has at least one sample"),
        (changed(1, np.ones((8, 3), "i4")), "'pair' has shape [8, 3], the model takes [2*B + 1"),
        (changed(1, np.ones((9, 3), "i4")), "tensors before it have 3 samples, this one has 4"),
        (changed(2, np.zeros(4, "i8")), "tensors before it have 3 samples, this one has 4"),
        (changed(0, np.ones((3, 4))), "'image' is float64, the model takes float32"),
        (changed(0, np.ones((3, 4), "i4")), "'image' is int32, the model takes float32"),
        (changed(0, np.ones((3, 4), "f2")), "convert it first: array.astype(numpy.float32)"),
        (changed(1, np.ones((7, 3), "f4")), "'pair' is float32, the model takes int32"),
        (changed(1, np.full((7, 3), 2**40)), "'pair' is int64, the model takes int32"),
        (changed(3, np.ones(3, "i4")), "'mask' is int32, the model takes bool"),
        (changed(2, np.ones(3, "?")), "'label' is bool, the model takes int64"),
        (changed(0, NAN_AT), "'image' holds nan at [1, 2]"),
        (changed(0, np.full((3, 4), -np.inf, "f4")), "'image' holds -inf at [0, 0]"),
        (changed(2, np.array([0, 10, 0])), "'label' holds 10 at [1], allowed are 0 to 9 or -100"),
        (changed(2, np.array([0, 0, -1])), "'label' holds -1 at [2]"),
        (changed(2, np.array([2**62, 0, 0])), "'label' holds 4611686018427387904"),
    ],
)
def test_a_bad_batch_is_refused_naming_the_argument(arrays: list[Any], message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check(arrays)
    assert message in str(caught.value)


def test_wide_integers_without_a_range_must_fit_the_device() -> None:
    entry = replace(PROGRAM.inputs[2], range=None)
    program = replace(PROGRAM, inputs=(entry,))
    assert check_batch(program, (), (np.array([2**31 - 1, -(2**31)]),)).batch == 2
    with pytest.raises(InvalidInputError, match="does not fit in 32 bits"):
        check_batch(program, (), (np.array([2**31]),))


def test_a_program_without_a_batch_runs_as_one() -> None:
    entry = Input("table", "input", "float32", (Dim.of(5),), 0)
    assert check_batch(replace(PROGRAM, inputs=(entry,)), (np.ones(5, "f4"),)).batch == 1


@given(st.integers(1, 50), st.integers(0, 5), st.integers(1, 200))
def test_the_batch_is_solved_exactly_or_not_at_all(factor: int, offset: int, size: int) -> None:
    batch = batch_of((factor * B + offset,), (size,))
    fits = [b for b in range(1, size + 1) if factor * b + offset == size]
    assert batch == (fits[0] if fits else None)


@pytest.mark.parametrize("dtype", ["i1", "i2", "u2", "u8", ">i8", ">i4"])
def test_files_hold_labels_in_the_dtype_of_the_manifest(dtype: str) -> None:
    image, pair, label, mask = good(6)
    label[:] = range(6)
    wide = np.repeat(label.astype(dtype), 2)[::2]  # not contiguous
    batch, arrays = file_arrays(PROGRAM, (image, pair), (wide, mask))
    assert batch == 6
    assert [entry.name for entry, _ in arrays] == ["image", "pair", "label", "mask"]
    sent = arrays[2][1]
    assert sent.dtype.name == "int64"
    assert sent.tobytes() == np.arange(6, dtype="<i8").tobytes()


def test_a_bundle_that_trains_nothing_takes_numbers_that_are_not_finite() -> None:
    image, *others = good(1)
    image[0, 1:3] = np.nan, -np.inf
    pair, *targets = others
    arrays = check_batch(PROGRAM, (image, pair), tuple(targets), finite=False).arrays
    np.testing.assert_array_equal(arrays[0], image)
    with pytest.raises(InvalidInputError, match="finite"):
        check_batch(PROGRAM, (image, pair), tuple(targets))
