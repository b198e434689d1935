"""What cannot be lowered is reported completely and at once."""

from __future__ import annotations

import numpy as np
import pytest

from hearth.capture.graph import AtenGraph, AtenInput, AtenNode, AtenOutput, Value
from hearth.errors import UnsupportedOpError
from hearth.ir.dim import B, shape_of
from hearth.ir.graph import Constant
from hearth.lowering.lower import find_gaps, lower

X = Value("x", shape_of((B, 3)), "float32")


def program(*targets: str, dtype: str = "float32") -> AtenGraph:
    """A chain of operations of one operand, each at its own line."""
    nodes, last = [], X
    for index, target in enumerate(targets):
        result = Value(str(index), X.shape, dtype)
        nodes.append(AtenNode(index, target, (last,), {}, (result,), f"model.py:{index}"))
        last = result
    inputs, outputs = (AtenInput("input/0", "input", X),), (AtenOutput("y", "output", last),)
    return AtenGraph(inputs, tuple(nodes), outputs)


def test_every_gap_is_found_with_its_line() -> None:
    gaps = find_gaps(program("aten.cumsum.default", "aten.exp.default", "aten.expp.default"))
    assert [(g.op, g.origin) for g in gaps] == [
        ("aten.cumsum.default", "model.py:0"),
        ("aten.expp.default", "model.py:2"),
    ]
    assert "aten.exp.default" in gaps[1].hint
    assert "hearth/lowering" in gaps[1].hint


def test_the_error_lists_all_gaps_and_says_what_to_do() -> None:
    with pytest.raises(UnsupportedOpError) as caught:
        lower(program("aten.cumsum.default", "aten.sort.default", "aten.cumsum.default"))
    text = str(caught.value)
    assert "2 operations have no lowering rule" in text
    assert "aten.cumsum.default at model.py:0; model.py:2" in text
    assert "aten.sort.default at model.py:1" in text
    assert "add a rule" in text


def test_an_element_type_without_a_place_on_the_device_is_a_gap() -> None:
    gaps = find_gaps(program("aten.exp.default", dtype="complex64"))
    assert {gap.op for gap in gaps} == {"aten.exp.default", "output"}
    assert all("complex64" in gap.hint and "float32" in gap.hint for gap in gaps)


def test_a_half_has_a_place_inside_a_program_but_not_at_its_ends() -> None:
    (gap,) = find_gaps(program("aten.exp.default", dtype="float16"))
    assert gap.op == "output"
    assert "cannot take or return float16" in gap.hint


def with_constant(array: np.ndarray, dtype: str) -> AtenGraph:
    table = Value("table", shape_of(array.shape), dtype)
    outputs = (AtenOutput("y", "output", table),)
    return AtenGraph((), (), outputs, {table: array})


def test_a_constant_of_equal_elements_needs_no_table() -> None:
    lowered = lower(with_constant(np.full((3, 5), 7), "int64"))
    assert not lowered.graph.constants
    assert lowered.graph.outputs[0].node.dtype == "int32"


def test_a_table_has_the_type_of_the_device() -> None:
    lowered = lower(with_constant(np.arange(5), "int64"))
    assert isinstance(lowered.graph.outputs[0].node.op, Constant)
    assert lowered.graph.constants["table"].dtype == np.int32


def test_integers_that_need_64_bits_are_refused() -> None:
    with pytest.raises(UnsupportedOpError, match="does not fit in 32 bits"):
        lower(with_constant(np.array([1, 2**40]), "int64"))
    with pytest.raises(UnsupportedOpError, match="does not fit in 32 bits"):
        lower(with_constant(np.array([-(2**31) - 1]), "int64"))


def test_the_limits_of_64_bits_become_those_of_32() -> None:
    least, greatest = -(2**63), 2**63 - 1
    table = lower(with_constant(np.array([least, 5, greatest]), "int64")).graph.constants["table"]
    assert table.tolist() == [-(2**31), 5, 2**31 - 1]
    lower(with_constant(np.full(3, least), "int64"))


def test_geometry_that_depends_on_the_batch_size_is_refused_with_its_line() -> None:
    image = Value("image", shape_of((2, 3, B, 7)), "float32")
    pooled = [Value(n, shape_of((2, 3, B, 3)), t) for n, t in (("v", "float32"), ("i", "int64"))]
    args = (image, (2, 2), (2, 2), (0, 0), (1, 1), False)
    target = "aten.max_pool2d_with_indices.default"
    node = AtenNode(0, target, args, {}, tuple(pooled), "model.py:9")
    inputs, outputs = (
        (AtenInput("input/0", "input", image),),
        (AtenOutput("y", "output", pooled[0]),),
    )
    with pytest.raises(UnsupportedOpError, match="depends on the batch size") as caught:
        lower(AtenGraph(inputs, (node,), outputs))
    assert "model.py:9" in str(caught.value)
