"""Convolutions, transposed ones, and their gradients."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F  # noqa: N812

from tests.ops.samples.sample import Samples, floats, gradient

SAMPLES = Samples()
add = SAMPLES.add


def _add_passes(label: str, function: Any, *inputs: Any) -> None:
    """A convolution, and the gradients of both of its operands."""
    add("aten.convolution.default", label, function, *inputs)
    add("hearth.conv_input_grad", label, gradient(function), *inputs)
    add("hearth.conv_weight_grad", label, gradient(function), *inputs)


_CONVOLUTIONS: list[tuple[str, dict[str, Any]]] = [
    ("plain", {}),
    ("stride", {"stride": (2, 3)}),
    ("padding", {"padding": (1, 2)}),
    ("dilation", {"dilation": (2, 1)}),
    ("all", {"stride": 2, "padding": (2, 1), "dilation": (1, 2)}),
    ("groups", {"groups": 2, "padding": 1}),
    ("leftover rows", {"stride": 3, "padding": 1}),
]
for _label, _options in _CONVOLUTIONS:
    _groups = _options.get("groups", 1)
    _inputs = (floats("B", 4, 11, 7), floats(6, 4 // _groups, 3, 2), floats(6))

    def _convolve(x: Any, w: Any, b: Any, k: dict[str, Any] = _options) -> Any:
        return F.conv2d(x, w, b, **k)

    _add_passes(_label, _convolve, *_inputs)
add("aten.convolution.default", "depthwise", lambda x, w: F.conv2d(x, w, groups=5),
    floats("B", 5, 7, 7), floats(5, 1, 3, 3))  # fmt: skip
add("aten.convolution.default", "1-d", lambda x, w: F.conv1d(x, w, padding=1, stride=2),
    floats("B", 3, 11), floats(5, 3, 3))  # fmt: skip
add("aten.convolution.default", "3-d", lambda x, w: F.conv3d(x, w, padding=1),
    floats("B", 2, 3, 5, 3), floats(3, 2, 2, 3, 2))  # fmt: skip
add("hearth.conv_weight_grad", "1-d",
    gradient(lambda x, w: F.conv1d(x, w, padding=1, stride=2)), floats("B", 3, 11),
    floats(5, 3, 3))  # fmt: skip
add("hearth.conv_input_grad", "3-d", gradient(lambda x, w: F.conv3d(x, w, stride=2)),
    floats("B", 2, 3, 5, 3), floats(3, 2, 2, 3, 2))  # fmt: skip

_TRANSPOSED: list[tuple[str, dict[str, Any]]] = [
    ("transposed", {}),
    ("transposed, stride", {"stride": 2, "padding": 1, "output_padding": (1, 0)}),
    ("transposed, dilation", {"dilation": 2, "stride": 3, "output_padding": 2}),
    ("transposed, large output padding", {"dilation": 3, "stride": 2, "output_padding": 2}),
    ("transposed, groups", {"groups": 2, "stride": 2}),
]
for _label, _options in _TRANSPOSED:
    _groups = _options.get("groups", 1)
    _inputs = (floats("B", 4, 5, 3), floats(4, 6 // _groups, 3, 2), floats(6))

    def _transpose(x: Any, w: Any, b: Any, k: dict[str, Any] = _options) -> Any:
        return F.conv_transpose2d(x, w, b, **k)

    _add_passes(_label, _transpose, *_inputs)
