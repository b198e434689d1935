"""Weights in fewer bytes come back as near as their precision allows, in Python and by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import nn

import hearth
from hearth.bundle.quantized import dequantize, encode_stored_weights, plain_weights, quantize
from hearth.bundle.safetensors import TensorFile, decode_safetensors

FLOATS = st.floats(-(2.0**99), 2.0**99, width=32)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)


@given(arrays.arrays(np.float32, arrays.array_shapes(min_dims=2, max_dims=4), elements=FLOATS))
def test_a_code_errs_at_most_half_a_step_of_its_channel(weight: np.ndarray) -> None:
    codes, scale = quantize(weight)
    assert codes.dtype == np.int8
    assert codes.min(initial=0) >= -127
    error = np.abs(dequantize(codes, scale).astype(np.float64) - weight)
    step = scale.astype(np.float64).reshape(-1, *(1,) * (weight.ndim - 1))
    assert (error <= step * 0.5 * (1 + 1e-5)).all()


@given(arrays.arrays(np.float32, (3, 5), elements=FLOATS))
def test_what_int8_has_given_back_is_stored_without_another_error(weight: np.ndarray) -> None:
    once = dequantize(*quantize(weight))
    again = dequantize(*quantize(once))
    np.testing.assert_allclose(again, once, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("precision", "share", "error"), [("float16", 0.5, 2**-11), ("int8", 0.25, 0.5 / 127)]
)
def test_a_state_dict_comes_back_as_float32(
    tmp_path: Path, precision: str, share: float, error: float
) -> None:
    state = Model().state_dict()
    hearth.save_weights(state, tmp_path / "full")
    hearth.save_weights(state, tmp_path / "small", precision=precision)
    loaded = hearth.load_weights(tmp_path / "small")
    assert list(loaded) == list(state)
    Model().load_state_dict(loaded)
    for name, tensor in state.items():
        assert loaded[name].dtype == tensor.dtype
        limit = error * float(tensor.float().abs().max())
        assert float((loaded[name] - tensor).abs().max()) <= limit
    big = nn.Linear(512, 512).state_dict()
    hearth.save_weights(big, tmp_path / "big", precision=precision)
    assert (tmp_path / "big").stat().st_size < 512 * 513 * 4 * (share + 0.02)


def test_biases_and_counters_stay_exact_in_int8(tmp_path: Path) -> None:
    state = Model().state_dict()
    hearth.save_weights(state, tmp_path / "w", precision="int8")
    loaded = hearth.load_weights(tmp_path / "w", like=state)
    for name in ("conv.bias", "norm.running_var", "norm.num_batches_tracked"):
        assert torch.equal(loaded[name], state[name])


def test_a_model_in_half_precision_stays_so_in_a_plain_file(tmp_path: Path) -> None:
    hearth.save_weights({"w": torch.ones(2, 2, dtype=torch.float16)}, tmp_path / "w")
    assert hearth.load_weights(tmp_path / "w")["w"].dtype == torch.float16


def test_what_a_precision_cannot_hold_is_named() -> None:
    large, broken = np.full((2, 2), 7e4, "f4"), np.array([[1, np.nan]], "f4")
    with pytest.raises(hearth.InvalidInputError, match="fc.weight holds 70000.0, which float16"):
        encode_stored_weights({"fc.weight": large}, "float16")
    with pytest.raises(hearth.InvalidInputError, match="fc.weight holds values that are not fin"):
        encode_stored_weights({"fc.weight": broken}, "int8")
    with pytest.raises(hearth.InvalidInputError, match="no precision 'int4'"):
        encode_stored_weights({}, "int4")  # type: ignore[arg-type]


def test_a_damaged_file_is_refused_by_name() -> None:
    data = encode_stored_weights({"w": np.ones((2, 3), "f4")}, "int8")
    file = decode_safetensors(data)
    scale = file.tensors["hearth/scale/w"]

    def refused(tensors: dict[str, np.ndarray], match: str, **metadata: str) -> None:
        broken = TensorFile(tensors, {**file.metadata, **metadata})
        with pytest.raises(hearth.BundleFormatError, match=match):
            plain_weights(broken)

    refused({"hearth/scale/w": scale}, "the scale of no tensor")
    refused({**file.tensors, "hearth/scale/w": scale[:1]}, "'w' has 2 channels, its scale")
    refused({**file.tensors, "w": np.ones((2, 3), "f4")}, "must be int8 and float32")
    refused(file.tensors, "holds weights as 'int3'", precision="int3")


def test_a_delta_leads_from_one_file_to_the_other(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before, after = Model(), Model()
    after.norm.num_batches_tracked += 7
    hearth.save_weights(before.state_dict(), tmp_path / "a")
    hearth.save_weights(after.state_dict(), tmp_path / "b")
    hearth.save_delta(tmp_path / "a", tmp_path / "b", tmp_path / "delta")
    moved = hearth.apply_delta(before.state_dict(), tmp_path / "delta")
    half = hearth.apply_delta(before.state_dict(), tmp_path / "delta", scale=0.5)
    for name, wanted in after.state_dict().items():
        torch.testing.assert_close(moved[name], wanted, rtol=1e-6, atol=1e-7)
        if wanted.is_floating_point():
            middle = (before.state_dict()[name] + wanted) / 2
            torch.testing.assert_close(half[name], middle, rtol=1e-6, atol=1e-7)
    with pytest.raises(hearth.BundleFormatError, match="is a difference from other weights"):
        hearth.apply_delta(after.state_dict(), tmp_path / "delta")
    with pytest.raises(hearth.BundleFormatError, match="not a difference of weights"):
        hearth.apply_delta(before.state_dict(), tmp_path / "a")


def test_a_delta_between_checkpoints_is_of_their_weights(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    for number in (1, 2):
        optimizer.zero_grad()
        model(torch.ones(4, 3)).square().sum().backward()
        optimizer.step()
        hearth.save_checkpoint(tmp_path / f"run{number}", model, optimizer)
    hearth.save_delta(tmp_path / "run1", tmp_path / "run2", tmp_path / "delta")
    first = hearth.load_checkpoint(tmp_path / "run1").model
    moved = hearth.apply_delta(first, tmp_path / "delta")
    torch.testing.assert_close(moved["weight"], model.weight.detach(), rtol=1e-6, atol=1e-7)


def test_models_that_differ_have_no_delta(tmp_path: Path) -> None:
    hearth.save_weights(nn.Linear(2, 2).state_dict(), tmp_path / "a")
    hearth.save_weights(nn.Linear(3, 2).state_dict(), tmp_path / "b")
    hearth.save_weights(nn.Linear(2, 2, bias=False).state_dict(), tmp_path / "c")
    with pytest.raises(hearth.InvalidInputError, match=r"'weight' is float32 \[2, 2\] before and"):
        hearth.save_delta(tmp_path / "a", tmp_path / "b", tmp_path / "delta")
    with pytest.raises(hearth.InvalidInputError, match="only the weights before have 'bias'"):
        hearth.save_delta(tmp_path / "a", tmp_path / "c", tmp_path / "delta")
