"""Weights by name, in safetensors and in JSON: every key finds its place or is an error."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from hearth.bundle.safetensors import encode_safetensors
from hearth.bundle.weights import (
    Weight,
    decode_weights,
    encode_json_weights,
    encode_weights,
    match_weights,
    weights_of,
)
from hearth.errors import BundleFormatError
from tests.bundle.samples import STATE, arrays

WEIGHTS = weights_of(STATE)
VALUES = {w.name: arrays()[w.name] for w in WEIGHTS}
FLOAT = np.dtype(np.float32)


def pair(first: str, second: str) -> tuple[Weight, Weight]:
    return Weight(first, FLOAT, (1,)), Weight(second, FLOAT, (2,))


def document(**weights: Any) -> bytes:
    return json.dumps({"weights": weights}).encode()


def json_of(**changes: Any) -> bytes:
    text: dict[str, Any] = json.loads(encode_json_weights(WEIGHTS, VALUES, "Sample"))
    text["weights"] |= {k: v for k, v in changes.items() if v is not ...}
    for key in [k for k, v in changes.items() if v is ...]:
        del text["weights"][key]
    return json.dumps(text).encode()


def test_weights_are_parameters_and_persistent_buffers_in_order() -> None:
    assert [w.name for w in WEIGHTS] == ["fc.weight", "fc.bias", "bn.num_batches_tracked"]


def test_untouched_weights_give_the_same_bytes_again() -> None:
    data = encode_weights(WEIGHTS, VALUES)
    assert encode_weights(WEIGHTS, decode_weights(WEIGHTS, data)) == data


def test_the_order_of_the_file_does_not_matter_for_reading() -> None:
    data = encode_safetensors(dict(reversed(VALUES.items())))
    assert list(decode_weights(WEIGHTS, data)) == list(VALUES)


def test_json_weights_return_bit_for_bit() -> None:
    special = {**VALUES, "fc.bias": np.array([-0.0, 1e-45, 3.4028235e38], "f4")}
    text = encode_json_weights(WEIGHTS, special, "Sample", {"epochs": 3})
    again = decode_weights(WEIGHTS, text.encode())
    assert all(again[n].tobytes() == special[n].tobytes() for n in special)
    parsed = json.loads(text)
    assert list(parsed) == ["model_type", "framework", "weights", "shapes", "metadata"]
    assert list(parsed["weights"]) == ["fc_weight", "fc_bias", "bn_num_batches_tracked"]
    assert parsed["metadata"] == {"epochs": 3}


def test_tied_weights_must_agree() -> None:
    tied = (Weight("embed", FLOAT, (2,), 256), Weight("head", FLOAT, (2,), 256))
    one, other = np.array([1, np.nan], "f4"), np.array([2, np.nan], "f4")
    assert list(match_weights(tied, {"embed": one, "head": one.copy()}, "file")) == [
        "embed",
        "head",
    ]
    with pytest.raises(BundleFormatError, match="'head' is tied to 'embed', but their values"):
        match_weights(tied, {"embed": one, "head": other}, "file")
    assert list(decode_weights(tied, document(embed=[1, 2], head=[1, 2]))) == ["embed", "head"]
    with pytest.raises(BundleFormatError, match="is tied to"):
        decode_weights(tied, document(embed=[1, 2], head=[1, 3]))


def test_json_weights_of_the_earlier_prototype_have_no_shapes() -> None:
    text = json.loads(json_of())
    del text["shapes"], text["metadata"]
    text["framework"] = "burn"
    again = decode_weights(WEIGHTS, json.dumps(text, indent=2).encode())
    assert again["fc.weight"].shape == (3, 4)


def test_json_keys_keep_their_dots_where_underscores_would_be_ambiguous() -> None:
    weights = pair("a.b_c", "a_b.c")
    values = {"a.b_c": np.ones(1, "f4"), "a_b.c": np.zeros(2, "f4")}
    text = encode_json_weights(weights, values, "m").encode()
    assert list(json.loads(text)["weights"]) == ["a.b_c", "a_b.c"]
    assert list(decode_weights(weights, text)) == ["a.b_c", "a_b.c"]


def test_an_ambiguous_json_key_is_refused_and_the_name_map_settles_it() -> None:
    weights = pair("a.b_c", "a_b.c")
    data = document(a_b_c=[1.0], x=[2.0, 3.0])
    with pytest.raises(BundleFormatError, match=r"'a_b_c' is ambiguous: a\.b_c or a_b\.c"):
        decode_weights(weights, data)
    found = decode_weights(weights, data, names={"a_b_c": "a.b_c", "x": "a_b.c"})
    assert found["a_b.c"].tolist() == [2.0, 3.0]


def test_a_name_map_wins_over_the_key_itself() -> None:
    weights = (Weight("a", FLOAT, (1,)), Weight("b", FLOAT, (1,)))
    swapped = {"a": "b", "b": "a"}
    data = encode_safetensors({"a": np.zeros(1, "f4"), "b": np.ones(1, "f4")})
    assert decode_weights(weights, data, names=swapped)["a"] == 1
    assert decode_weights(weights, document(a=[0], b=[1]), names=swapped)["a"] == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (json_of(fc_bias=...), "misses 'fc.bias'"),
        (json_of(other=[1]), "has 'other', unknown to the model"),
        (json_of(**{"fc.bias": [1, 2, 3]}), "both 'fc_bias' and 'fc.bias' stand for 'fc.bias'"),
        (json_of(fc_bias=[1, 2]), "'fc.bias' has 2 values, shape [3] needs 3"),
        (json_of(fc_bias=[[1, 2, 3]]), "holds [1, 2, 3] at 0: not float32"),
        (json_of(fc_bias=[1, None, 3]), "holds None at 1: not float32"),
        (json_of(fc_bias=[1, True, 3]), "holds True at 1: not float32"),
        (json_of(fc_bias=3), "must be a flat list"),
        (json_of(bn_num_batches_tracked=[1.5]), "holds 1.5 at 0: not int64"),
        (b'{"weights": [1]}', "there is no object 'weights'"),
        (b"{}", "there is no object 'weights'"),
        (b'{"weights": {', "is not JSON"),
        (encode_safetensors({**VALUES, "x": np.zeros(1, "f4")}), "has 'x', unknown"),
        (encode_safetensors({"fc.weight": VALUES["fc.weight"]}), "misses 'fc.bias', 'bn.num"),
        (encode_safetensors({**VALUES, "fc.bias": np.zeros(4, "f4")}), "has shape [4]"),
        (encode_safetensors({**VALUES, "fc.bias": np.zeros(3, "f8")}), "is float64"),
        (b"GIF89a..........", "truncated, or is not a safetensors file"),
    ],
)
def test_a_bad_weight_file_names_what_is_wrong(data: bytes, message: str) -> None:
    with pytest.raises(BundleFormatError) as caught:
        decode_weights(WEIGHTS, data, "w")
    assert message in str(caught.value)


def test_json_shapes_must_agree_where_they_are_given() -> None:
    text = json.loads(json_of())
    text["shapes"]["fc_weight"] = [4, 3]
    with pytest.raises(BundleFormatError, match=r"'fc.weight' has shape \[4, 3\]"):
        decode_weights(WEIGHTS, json.dumps(text).encode())


def test_a_name_map_with_an_unknown_key_is_refused() -> None:
    for data in (json_of(), encode_weights(WEIGHTS, VALUES)):
        with pytest.raises(BundleFormatError, match="no key 'nope'"):
            decode_weights(WEIGHTS, data, names={"nope": "fc.bias"})


def test_values_that_json_cannot_express_are_refused() -> None:
    broken = {**VALUES, "fc.bias": np.array([1, np.nan, 2], "f4")}
    with pytest.raises(BundleFormatError, match="'fc.bias' holds values that are not finite"):
        encode_json_weights(WEIGHTS, broken, "m")
