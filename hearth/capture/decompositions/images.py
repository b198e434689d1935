"""Resampling of signals, images and volumes, and its gradient: one constant table per axis.

Every mode of `F.interpolate` is separable.  A linear one is a matrix per axis, its gradient the
transposed matrices; a nearest one repeats or selects elements, its gradient sums them up.  The
formulas are PyTorch's (aten/src/ATen/native/UpSample.h).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch.utils._python_dispatch import _disable_current_modes

from hearth.capture.decompositions.registry import aten, rule
from hearth.capture.decompositions.tables import constant, times_matrix

Tensor = torch.Tensor
Ints = Sequence[int]
Scale = float | None
Weights = Callable[[int, int, Scale, bool], Tensor]  # (size, out, scale, corners) -> [out, size]
_CUBIC, _CUBIC_ANTIALIASED = -0.75, -0.5

# ------------------------------------------------------------------------------ linear modes


def _step(size: int, out: int, scale: Scale, corners: bool) -> float:
    """The distance in the input between the centres of two output elements."""
    if corners:
        return (size - 1) / (out - 1) if out > 1 else 0.0
    return 1.0 / scale if scale else size / out


def _positions(size: int, out: int, scale: Scale, corners: bool) -> Tensor:
    """Where the centres of the output elements lie in the input."""
    index, step = torch.arange(out, dtype=torch.float64), _step(size, out, scale, corners)
    return index * step if corners else (index + 0.5) * step - 0.5


def _matrix(size: int, taps: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Rows of weights at places, which are moved into the input."""
    row = torch.arange(len(taps[0][0]))
    matrix = torch.zeros(len(row), size, dtype=torch.float64)
    for place, weight in taps:
        matrix[row, place.clamp(0, size - 1)] += weight.double()
    return matrix


def linear(size: int, out: int, scale: Scale, corners: bool) -> Tensor:
    position = _positions(size, out, scale, corners).clamp(min=0)
    low = position.floor().long().clamp(max=size - 1)
    rest = position - low
    return _matrix(size, [(low, 1 - rest), (low + 1, rest)])


def cubic_weight(distance: Tensor, a: float) -> Tensor:
    """Keys' convolution kernel."""
    x = distance.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def cubic(size: int, out: int, scale: Scale, corners: bool) -> Tensor:
    position = _positions(size, out, scale, corners)
    low = position.floor().long()
    rest = position - low
    return _matrix(size, [(low + k, cubic_weight(rest - k, _CUBIC)) for k in (-1, 0, 1, 2)])


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance.abs()).clamp(min=0)


def _lanczos(distance: Tensor) -> Tensor:
    inside = torch.sinc(distance) * torch.sinc(distance / 3)
    return torch.where(distance.abs() < 3, inside, torch.zeros_like(distance))


def antialiased(kernel: Callable[[Tensor], Tensor], radius: int) -> Weights:
    """The kernel stretched over the elements that an output element covers, as in Pillow."""

    def weights(size: int, out: int, scale: Scale, corners: bool) -> Tensor:
        step = _step(size, out, scale, corners)
        stretch = max(step, 1.0)
        matrix = torch.zeros(out, size, dtype=torch.float64)
        for row in range(out):
            centre = step * (row + 0.5)
            start = max(int(centre - radius * stretch + 0.5), 0)
            stop = min(int(centre + radius * stretch + 0.5), size)
            places = torch.arange(start, stop, dtype=torch.float64)
            values = kernel((places - centre + 0.5) / stretch)
            matrix[row, start:stop] = values / values.sum()
        return matrix

    return weights


_LINEAR_MODES: dict[str, Weights] = {
    **dict.fromkeys(("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"), linear),
    "upsample_bicubic2d": cubic,
    "_upsample_bilinear2d_aa": antialiased(_triangle, 1),
    "_upsample_bicubic2d_aa": antialiased(partial(cubic_weight, a=_CUBIC_ANTIALIASED), 2),
    "_upsample_lanczos2d_aa": antialiased(_lanczos, 3),
}


def _tables(
    weights: Weights,
    sizes: Ints,
    outs: Ints,
    corners: bool,
    scales: Sequence[Scale],
) -> list[Tensor]:
    scales = scales or (None,) * len(outs)
    return [
        constant(partial(weights, size, out, scale, corners))
        for size, out, scale in zip(sizes, outs, scales, strict=True)
    ]


def _products(x: Tensor, matrices: Sequence[Tensor], transposed: bool) -> Tensor:
    """The last axes of x times one matrix each, those first that leave least to do."""
    first = x.dim() - len(matrices)
    growth = [m.shape[0] / max(m.shape[1], 1) for m in matrices]
    y = x
    for i in sorted(range(len(matrices)), key=lambda i: (growth[i], -i), reverse=transposed):
        y = times_matrix(y, first + i, matrices[i], transposed)
    return y.clone() if y is x else y


def _resampled(weights: Weights, x: Tensor, out: Ints, corners: bool, *scales: Scale) -> Tensor:
    return _products(x, _tables(weights, x.shape[2:], out, corners, scales), transposed=False)


def _resampled_backward(
    weights: Weights, g: Tensor, out: Ints, size: Ints, corners: bool,
    *scales: Scale,
) -> Tensor:  # fmt: skip
    return _products(g, _tables(weights, size[2:], out, corners, scales), transposed=True)


for _name, _weights in _LINEAR_MODES.items():
    rule(getattr(aten, _name).default)(partial(_resampled, _weights))
    rule(getattr(aten, f"{_name}_backward").default)(partial(_resampled_backward, _weights))


# ------------------------------------------------------------------------------ nearest modes


def _indices(shift: float, x: Tensor, size: int, out: int, scale: Scale) -> list[int]:
    """The input element of each output element, rounded as PyTorch does: images in float32."""
    dtype = torch.float64 if x.dtype == torch.float64 and x.dim() != 4 else torch.float32
    with _disable_current_modes(), torch._C.DisableTorchFunction():
        step = torch.tensor(1.0 / scale if scale else size / out, dtype=dtype)
        place = (torch.arange(out, dtype=dtype) + shift) * step
        return [min(int(i), size - 1) for i in place.tolist()]


def _repeats(indices: Ints, size: int) -> int:
    """How often each element is repeated, where it is the same for all; else 0."""
    times = len(indices) // max(size, 1)
    return times if list(indices) == [i // times for i in range(size * times)] else 0


def _chosen(x: Tensor, axis: int, indices: Ints) -> Tensor:
    times = _repeats(indices, x.shape[axis])
    if times == 1:
        return x
    if times:
        wide = list(x.shape)
        wide.insert(axis + 1, times)
        return x.unsqueeze(axis + 1).expand(wide).flatten(axis, axis + 1)
    return torch.index_select(x, axis, constant(lambda: torch.tensor(indices)))


def _blocks(x: Tensor, axis: int, count: int, size: int) -> Tensor:
    return x.reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :])


def _chosen_backward(g: Tensor, axis: int, indices: Ints, size: int) -> Tensor:
    times = _repeats(indices, size)
    if times:
        return g if times == 1 else _blocks(g, axis, size, times).sum(axis + 1)
    table = constant(lambda: _matrix(size, [(torch.tensor(indices), torch.ones(len(indices)))]))
    return times_matrix(g, axis, table, transposed=True)


def _nearest_resampled(shift: float, x: Tensor, out: Ints, *scales: Scale) -> Tensor:
    y = x
    for i, scale in enumerate(scales or (None,) * len(out)):
        y = _chosen(y, i + 2, _indices(shift, x, x.shape[i + 2], out[i], scale))
    return y.clone() if y is x else y


def _nearest_backward(shift: float, g: Tensor, out: Ints, size: Ints, *scales: Scale) -> Tensor:
    y = g
    for i, scale in enumerate(scales or (None,) * len(out)):
        indices = _indices(shift, g, size[i + 2], out[i], scale)
        y = _chosen_backward(y, i + 2, indices, size[i + 2])
    return y.clone() if y is g else y


for _rank in (1, 2, 3):
    for _name, _shift in (("upsample_nearest", 0.0), ("_upsample_nearest_exact", 0.5)):
        _forward = getattr(aten, f"{_name}{_rank}d")
        _backward = getattr(aten, f"{_name}{_rank}d_backward")
        rule(_forward.default)(partial(_nearest_resampled, _shift))
        rule(_backward.default)(partial(_nearest_backward, _shift))
