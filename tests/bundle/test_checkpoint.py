"""Checkpoints: a run survives the way through a file, and foreign files are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hearth.bundle.checkpoint import (
    checkpoint_of,
    decode_checkpoint,
    encode_checkpoint,
    state_of,
)
from hearth.bundle.safetensors import decode_safetensors, encode_safetensors
from hearth.errors import BundleFormatError
from tests.bundle.samples import MANIFEST, arrays

CHECKPOINT = checkpoint_of(MANIFEST, arrays(), (0.25,))


def test_the_state_of_a_run_survives_the_file() -> None:
    again = decode_checkpoint(encode_checkpoint(CHECKPOINT))
    state = state_of(MANIFEST, again)
    expected = arrays()
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        assert state[name].dtype == value.dtype
        assert state[name].shape == value.shape
        assert state[name].tobytes() == value.tobytes()


def test_the_current_learning_rate_step_and_seed_are_kept() -> None:
    again = decode_checkpoint(encode_checkpoint(CHECKPOINT))
    assert again.description.groups[0].learning_rate == 0.25
    assert again.description.groups[0].options == {"eps": 1e-8}
    assert (again.step, again.seed) == (7, 1 | 2 << 32)


def test_the_file_has_the_names_of_the_contract() -> None:
    file = decode_safetensors(encode_checkpoint(CHECKPOINT))
    assert list(file.tensors) == [
        "fc.weight", "fc.bias", "bn.num_batches_tracked", "optimizer/exp_avg/fc.weight",
        "hearth/step", "hearth/seed",
    ]  # fmt: skip
    assert file.metadata["format"] == "hearth-checkpoint"
    assert file.metadata["version"] == "1"


def test_a_seed_of_64_bits_keeps_all_of_them() -> None:
    whole = replace(CHECKPOINT, seed=2**64 - 2)
    assert decode_checkpoint(encode_checkpoint(whole)).seed == 2**64 - 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "pt"}, "is not a Hearth checkpoint"),
        ({"version": "2"}, "version 2, this Hearth reads up to 1"),
        ({"version": "one"}, "checkpoint version 'one'"),
        ({"version": "0"}, "checkpoint version '0'"),
        ({"optimizer": "{"}, "'optimizer' is not JSON"),
        ({"optimizer": '{"class": 1, "groups": []}'}, "optimizer.class: expected a string"),
        ({"optimizer": '{"class": "SGD"}'}, "optimizer.groups is missing"),
    ],
)
def test_bad_metadata_is_refused(change: dict[str, str], message: str) -> None:
    file = decode_safetensors(encode_checkpoint(CHECKPOINT))
    data = encode_safetensors(file.tensors, {**file.metadata, **change})
    with pytest.raises(BundleFormatError) as caught:
        decode_checkpoint(data)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hearth/step", np.zeros(2, "i8")),
        ("hearth/step", np.zeros((), "f4")),
        ("hearth/seed", np.array([-1, 0], "i8")),
    ],
)
def test_bad_step_and_seed_are_refused(name: str, value: np.ndarray) -> None:
    file = decode_safetensors(encode_checkpoint(CHECKPOINT))
    data = encode_safetensors({**file.tensors, name: value}, file.metadata)
    with pytest.raises(BundleFormatError, match=name):
        decode_checkpoint(data)


def test_a_checkpoint_of_another_model_or_optimizer_is_refused() -> None:
    other = replace(CHECKPOINT, description=replace(CHECKPOINT.description, class_="SGD"))
    with pytest.raises(BundleFormatError, match="another optimizer"):
        state_of(MANIFEST, other)
    lacking = replace(CHECKPOINT, optimizer={})
    with pytest.raises(BundleFormatError, match="misses 'exp_avg/fc.weight'"):
        state_of(MANIFEST, lacking)
    with pytest.raises(BundleFormatError, match="no optimizer"):
        checkpoint_of(replace(MANIFEST, optimizer=None), arrays(), ())
