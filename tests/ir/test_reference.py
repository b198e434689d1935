"""The reference interpreter where no PyTorch operation of ours reaches it, and its errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hearth.errors import InvalidInputError
from hearth.ir import build
from hearth.ir.dim import B, Dim, shape_of
from hearth.ir.dtype import FLOAT32, INT32
from hearth.ir.graph import Graph, Node, Output, WindowSpec
from hearth.ir.reference import run
from hearth.ir.scalar import Arg, BatchValue, Coord, apply, const


def value(*shape: Dim | int, dtype: str = FLOAT32, name: str = "x") -> Node:
    return build.input_node(name, "input", shape_of(shape), dtype)


def result(node: Node, batch: int = 1, floats: Any = np.float64, **feeds: Any) -> Any:
    return run(Graph((Output("y", "output", node),)), feeds, batch, floats)["y"]


def test_a_missing_feed_and_one_of_another_shape_are_refused_by_name() -> None:
    x = value(B, 3)
    with pytest.raises(InvalidInputError, match="'x' is missing"):
        result(x, 2)
    with pytest.raises(InvalidInputError, match=r"'x' has shape \(2, 4\), expected \(2, 3\)"):
        result(x, 2, x=np.zeros((2, 4)))


@pytest.mark.parametrize("floats", [np.float32, np.float64])
def test_floats_are_computed_in_the_type_that_was_asked_for(floats: Any) -> None:
    third = apply("div", apply("add", Arg(FLOAT32, 0), 0.1), BatchValue(FLOAT32, B, Dim.of(1)))
    got = result(build.pointwise(third, value(B)), 3, floats, x=np.ones(3))
    assert got.dtype == floats
    np.testing.assert_array_equal(got, (np.ones(3, floats) + floats(0.1)) / floats(3))
    assert result(build.pointwise(const(0.1), shape=(2,)), 1, floats).dtype == floats


def test_integers_wrap_around_in_sums_and_products() -> None:
    x = value(3, dtype=INT32)
    big = np.array([2**31 - 1, 1, 5], np.int32)
    assert result(build.reduce("sum", x, (0,)), x=big) == [-(2**31) + 5]
    assert result(build.reduce("prod", x, (0,)), x=np.array([2**30, 2, 3])) == [-(2**31)]


def test_coordinates_count_in_row_major_order() -> None:
    linear = build.pointwise(Coord(INT32, None), shape=(B, 3))
    np.testing.assert_array_equal(result(linear, 2), [[0, 1, 2], [3, 4, 5]])
    row = build.pointwise(Coord(INT32, 0), shape=(B, 3))
    np.testing.assert_array_equal(result(row, 2), [[0, 0, 0], [1, 1, 1]])


def test_an_extreme_position_counts_over_all_reduced_axes_and_the_first_wins() -> None:
    x = np.array([[[1.0, 5.0], [0.0, 5.0]], [[0.0, 2.0], [2.0, 1.0]], [[3, np.nan], [9, np.nan]]])
    node = value(B, 2, 2)
    assert result(build.reduce("argmax", node, (1, 2)), 3, x=x).ravel().tolist() == [1, 1, 1]
    assert result(build.reduce("argmin", node, (1, 2)), 3, x=x).ravel().tolist() == [2, 0, 1]
    assert result(build.reduce("argmax", node, (0,)), 3, x=x).ravel().tolist() == [2, 2, 2, 2]


def test_a_gather_is_pytorchs_and_refuses_indices_outside() -> None:
    x, index = value(B, 5), value(B, 2, dtype=INT32, name="i")
    table, picks = np.arange(15.0).reshape(3, 5), np.array([[0, 4], [2, 2], [1, 0]])
    want = torch.gather(torch.from_numpy(table), 1, torch.from_numpy(picks))
    np.testing.assert_array_equal(result(build.gather(x, index, 1), 3, x=table, i=picks), want)
    for bad in (-1, 5):
        with pytest.raises(AssertionError, match="out of range"):
            result(build.gather(x, index, 1), 3, x=table, i=np.full((3, 2), bad))


def test_a_pack_lays_parts_at_their_offsets_with_zeros_between() -> None:
    parts = [value(2, 2, name="a"), value(3, name="b")]
    packed = build.pack("flat", parts, (0, 6), 10)
    got = result(packed, a=np.array([[1, 2], [3, 4]]), b=np.array([5, 6, 7]))
    assert got.tolist() == [1, 2, 3, 4, 0, 0, 5, 6, 7, 0]


@pytest.mark.parametrize(
    "spec",
    [
        WindowSpec((3,), (1,), (0,), (1,)),
        WindowSpec((3,), (2,), (1,), (1,)),
        WindowSpec((2, 3), (3, 1), (1, 2), (2, 1)),
        WindowSpec((2, 2), (2, 2), (0, 0), (3, 3)),
    ],
)
def test_transposed_windows_are_the_transpose_of_windows(spec: WindowSpec) -> None:
    """<sum of taps of Window(x), y> = <x, sum of taps of WindowTranspose(y)>."""
    generator = np.random.default_rng(0)
    spatial = (11, 7)[: spec.rank]
    node = value(B, *spatial)
    taps = range(1 + spec.rank, 1 + 2 * spec.rank)
    windows = build.reduce("sum", build.window(node, spec, 0.0), taps)
    x = generator.normal(size=(3, *spatial))
    seen = result(windows, 3, x=x)
    y = generator.normal(size=seen.shape)
    back = build.window_transpose(
        value(B, *windows.shape[1 : 1 + spec.rank], name="y"), spec, spatial, 0.0
    )
    returned = result(build.reduce("sum", back, taps), 3, y=y.reshape(y.shape[: 1 + spec.rank]))
    assert (seen * y).sum() == pytest.approx((x * returned.reshape(x.shape)).sum(), rel=1e-12)


def test_padding_may_depend_on_the_batch_and_negative_amounts_cut() -> None:
    x = value(B)
    padded = build.pad(x, (B,), (-1,), 7.0)
    np.testing.assert_array_equal(result(padded, 3, x=np.arange(3.0)), [7, 7, 7, 0, 1])
