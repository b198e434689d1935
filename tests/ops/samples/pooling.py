"""Pooling, its gradients, and the windows themselves."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from tests.ops.samples.sample import Samples, floats, gradient, ints, ties

SAMPLES = Samples()
add = SAMPLES.add

_POOLS: list[tuple[str, dict[str, Any]]] = [
    ("2", {"kernel_size": 2}),
    ("tiles with a rest", {"kernel_size": 3}),
    ("overlapping", {"kernel_size": 3, "stride": 2}),
    ("padding", {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("uneven", {"kernel_size": (2, 3), "stride": (3, 1), "padding": (1, 0)}),
    ("ceil", {"kernel_size": 2, "ceil_mode": True}),
    ("ceil with padding", {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
]
_MAX_POOLS = [
    *_POOLS,
    ("dilation", {"kernel_size": 2, "stride": 1, "dilation": 3}),
    ("dilation with padding", {"kernel_size": 3, "stride": 2, "dilation": 2, "padding": 1}),
]
for _label, _options in _MAX_POOLS:

    def _max_pool(x: Any, k: dict[str, Any] = _options) -> Any:
        return F.max_pool2d(x, **k)

    def _max_pool_indices(x: Any, k: dict[str, Any] = _options) -> Any:
        return F.max_pool2d(x, return_indices=True, **k)

    _op = "aten.max_pool2d_with_indices.default"
    add(_op, _label, _max_pool_indices, floats("B", 3, 11, 7))
    add(_op, f"{_label}, ties", _max_pool_indices, ties("B", 3, 11, 7))
    # Of several NaN in one window we choose the first and PyTorch the last: compare the values.
    add(_op, f"{_label}, NaN", lambda x, f=_max_pool: f(torch.log(x + 2)), floats("B", 3, 11, 7))
    add(_op, f"{_label}, -inf", lambda x, f=_max_pool_indices: f(x * 0 - torch.inf),
        floats("B", 1, 11, 7))  # fmt: skip
    add("hearth.max_pool_grad", _label, gradient(_max_pool), floats("B", 3, 11, 7))
    add("hearth.max_pool_grad", f"{_label}, ties", gradient(_max_pool), ties("B", 3, 11, 7))
_AVG_POOLS = [
    *_POOLS,
    ("padding left out", {"kernel_size": 3, "padding": 1, "count_include_pad": False}),
    ("divisor", {"kernel_size": 2, "stride": 1, "divisor_override": 3}),
    ("ceil, padding left out", {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True,
                                "count_include_pad": False}),
]  # fmt: skip
for _label, _options in _AVG_POOLS:

    def _avg_pool(x: Any, k: dict[str, Any] = _options) -> Any:
        return F.avg_pool2d(x, **k)

    add("aten.avg_pool2d.default", _label, _avg_pool, floats("B", 3, 11, 7))
    add("hearth.avg_pool_grad", _label, gradient(_avg_pool), floats("B", 3, 11, 7))

for _divisor in (None, 4, -2):
    add("aten.avg_pool2d.default", f"integers over {_divisor}",
        lambda x, d=_divisor: F.avg_pool2d(x, 3, 2, 1, divisor_override=d),
        ints("B", 3, 11, 7, low=-99, high=99))  # fmt: skip

_VOLUMES: list[tuple[str, dict[str, Any]]] = [
    ("tiles with a rest", {"kernel_size": 2}),
    ("padding", {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("uneven, ceil", {"kernel_size": (2, 3, 1), "stride": (3, 1, 2), "padding": (1, 0, 0),
                      "ceil_mode": True}),
]  # fmt: skip
for _label, _options in _VOLUMES:

    def _max_volume(x: Any, k: dict[str, Any] = _options) -> Any:
        return F.max_pool3d(x, **k)

    def _max_volume_indices(x: Any, k: dict[str, Any] = _options) -> Any:
        return F.max_pool3d(x, return_indices=True, **k)

    def _avg_volume(x: Any, k: dict[str, Any] = _options) -> Any:
        return F.avg_pool3d(x, count_include_pad=False, **k)

    _volume, _label = floats("B", 2, 5, 7, 3), f"volume, {_label}"
    add("aten.max_pool3d_with_indices.default", _label, _max_volume_indices, _volume)
    add("aten.avg_pool3d.default", _label, _avg_volume, _volume)
    add("hearth.max_pool_grad", _label, gradient(_max_volume), _volume)
    add("hearth.avg_pool_grad", _label, gradient(_avg_volume), _volume)

for _label, _options in (
    ("dense", {"kernel_size": 3}),
    ("sparse", {"kernel_size": (2, 3), "stride": (3, 2), "padding": (1, 2), "dilation": (2, 1)}),
):

    def _columns(x: Any, k: dict[str, Any] = _options) -> Any:
        return F.unfold(x, **k)

    add("hearth.window", _label, _columns, floats("B", 3, 11, 7))
add("hearth.window", "one axis", lambda x: x.unfold(1, 3, 2), floats("B", 11, 5))
