"""The safetensors reader and writer against the reference package, and every way to be bad."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np
import pytest
import safetensors.numpy as reference
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hearth.bundle.safetensors import (
    DTYPES,
    decode_safetensors,
    encode_safetensors,
    read_safetensors,
)
from hearth.errors import BundleFormatError, InvalidInputError, StorageError

names = st.text(min_size=1, max_size=12).filter(lambda s: s != "__metadata__")
arrays = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda d: hnp.arrays(DTYPES[d], hnp.array_shapes(min_dims=0, max_dims=4, min_side=0))
)
tensor_maps = st.dictionaries(names, arrays, max_size=5)


def same(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    return ours.keys() == theirs.keys() and all(
        ours[k].dtype == theirs[k].dtype
        and ours[k].shape == theirs[k].shape
        and ours[k].tobytes() == theirs[k].tobytes()
        for k in ours
    )


def build(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@given(tensor_maps, st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3))
def test_what_we_write_we_read_again_in_the_same_order(
    tensors: dict[str, Any], metadata: dict[str, str]
) -> None:
    again = decode_safetensors(encode_safetensors(tensors, metadata))
    assert list(again.tensors) == list(tensors)
    assert same(again.tensors, tensors)
    assert again.metadata == metadata


@given(tensor_maps)
def test_the_reference_package_reads_what_we_write(tensors: dict[str, Any]) -> None:
    assert same(reference.load(encode_safetensors(tensors)), tensors)


@given(tensor_maps)
def test_we_read_what_the_reference_package_writes(tensors: dict[str, Any]) -> None:
    assert same(decode_safetensors(reference.save(tensors)).tensors, tensors)


def test_our_bytes_are_the_reference_bytes_when_the_order_is_the_same() -> None:
    tensors = {"a": np.arange(6, dtype="f4").reshape(2, 3), "b": np.zeros(1, "f4")}
    metadata = {"format": "pt"}
    assert encode_safetensors(tensors, metadata) == reference.save(tensors, metadata)


def test_values_that_are_not_numbers_keep_their_bits() -> None:
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45], dtype="f4")
    special.view("u4")[4] = 0x7FC01234
    again = decode_safetensors(encode_safetensors({"x": special})).tensors["x"]
    assert again.tobytes() == special.tobytes()


def test_big_endian_and_strided_arrays_are_written_row_major_little_endian() -> None:
    array = np.arange(12, dtype=">f4").reshape(3, 4).T
    again = decode_safetensors(encode_safetensors({"x": array})).tensors["x"]
    assert (again == array).all()
    assert again.dtype == np.dtype("<f4")


def test_the_header_is_padded_to_eight_bytes() -> None:
    for length in range(1, 10):
        data = encode_safetensors({"n" * length: np.zeros(1, "f4")})
        assert int.from_bytes(data[:8], "little") % 8 == 0


def test_a_read_tensor_can_be_written_to() -> None:
    tensor = decode_safetensors(encode_safetensors({"x": np.zeros(3, "f4")})).tensors["x"]
    tensor[0] = 1
    assert tensor.flags.owndata or tensor.base is not None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "has 0 bytes"),
        (b"\0" * 7, "has 7 bytes"),
        ((100).to_bytes(8, "little") + b"{}", "announces a header of 100 bytes"),
        (b"\xff" * 16, "announces a header"),
        (build(b"{not json"), "not JSON"),
        (build(b"\xff\xfe{}"), "not JSON"),
        (build(b"[" * 100_000), "not JSON"),
        (build([1]), "not a JSON object"),
        (build(b'{"a":1,"a":2}'), "'a' occurs twice"),
        (build({"__metadata__": {"a": 1}}), "__metadata__"),
        (build({"__metadata__": "a"}), "__metadata__"),
        (build({"a": 1}), "exactly dtype, shape and data_offsets"),
        (build({"a": {"dtype": "F32"}}), "exactly dtype, shape and data_offsets"),
        (build({"a": entry() | {"more": 1}}, b"\0" * 8), "exactly dtype"),
        (build({"a": entry("BF16", [4])}, b"\0" * 8), "unknown dtype 'BF16'"),
        (build({"a": entry("F32", [-2])}, b"\0" * 8), "not a list of sizes"),
        (build({"a": entry("F32", [2.0])}, b"\0" * 8), "not a list of sizes"),
        (build({"a": entry("F32", [True, 2])}, b"\0" * 8), "not a list of sizes"),
        (build({"a": entry("F32", 2)}, b"\0" * 8), "not a list of sizes"),
        (build({"a": entry(offsets=[8, 0])}, b"\0" * 8), "not [begin, end]"),
        (build({"a": entry(offsets=[0])}, b"\0" * 8), "not [begin, end]"),
        (build({"a": entry(shape=[3])}, b"\0" * 8), "needs 12"),
        (build({"a": entry(offsets=[4, 12])}, b"\0" * 12), "leaves a gap"),
        (
            build({"a": entry(), "b": entry(offsets=[4, 12])}, b"\0" * 12),
            "overlaps the one before it",
        ),
        (build({"a": entry(), "b": entry()}, b"\0" * 8), "overlaps the one before it"),
        (build({"a": entry()}, b"\0" * 7), "truncated"),
        (build({"a": entry()}, b"\0" * 9), "surplus bytes"),
        (build({}, b"\0"), "surplus bytes"),
        (build({"a": entry("BOOL", [1], [0, 1])}, b"\2"), "BOOL but holds 2"),
    ],
)
def test_a_bad_file_is_refused_with_its_reason(data: bytes, message: str) -> None:
    with pytest.raises(BundleFormatError) as caught:
        decode_safetensors(data, "w.safetensors")
    assert message in str(caught.value)
    assert "w.safetensors" in str(caught.value)


@given(st.data())
def test_no_truncation_goes_unnoticed(data: st.DataObject) -> None:
    whole = encode_safetensors({"a": np.arange(5, dtype="f4"), "b": np.ones((2, 2), "i8")})
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(BundleFormatError):
        decode_safetensors(whole[:cut])


@given(st.binary(max_size=200))
def test_random_bytes_end_in_our_error_or_a_file(data: bytes) -> None:
    with contextlib.suppress(BundleFormatError):
        decode_safetensors(data)


def test_a_dtype_that_no_file_holds_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="complex64"):
        encode_safetensors({"x": np.zeros(1, "c8")})
    with pytest.raises(InvalidInputError, match="__metadata__"):
        encode_safetensors({"__metadata__": np.zeros(1, "f4")})


def test_a_missing_file_is_a_storage_error(tmp_path: Any) -> None:
    with pytest.raises(StorageError, match="No such file"):
        read_safetensors(tmp_path / "none.safetensors")
