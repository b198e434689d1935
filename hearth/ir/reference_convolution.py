"""Convolutions in NumPy, tap by tap: the meaning of the three convolution nodes.

One idea serves all three: a tap of the kernel reads a strided slice of the padded input, one
element per output position.  The forward pass sums taps, the input gradient adds into the slices,
the weight gradient sums over positions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from hearth.ir.graph import Conv, ConvInputGrad, ConvSpec, ConvWeightGrad

Array = Any
Extents = tuple[int, ...]


def _taps(spec: ConvSpec, kernel: Extents, out: Extents) -> Iterator[tuple[Extents, Any]]:
    """For each tap, its index and the padded input elements that the positions `out` read."""
    for tap in itertools.product(*(range(k) for k in kernel)):
        starts = [t * d for t, d in zip(tap, spec.dilation, strict=True)]
        read = tuple(
            slice(a, a + (n - 1) * s + 1, s)
            for a, n, s in zip(starts, out, spec.stride, strict=True)
        )
        yield tap, (..., *read)


def _padded_extents(spec: ConvSpec, spatial: Sequence[int], kernel: Extents,
                    out: Sequence[int]) -> list[int]:  # fmt: skip
    """Large enough for the padding and for the last tap of the last position."""
    return [
        max(n + 2 * p, (o - 1) * s + (k - 1) * d + 1)
        for n, p, o, s, k, d in zip(
            spatial, spec.padding, out, spec.stride, kernel, spec.dilation, strict=True
        )
    ]


def _pad_spatial(x: Array, spec: ConvSpec, extents: Sequence[int]) -> Array:
    amounts = [(p, e - n - p) for n, p, e in zip(x.shape[2:], spec.padding, extents, strict=True)]
    return np.pad(x, [(0, 0), (0, 0), *amounts])


def _grouped(x: Array, groups: int, axis: int) -> Array:
    """Channels split as [groups, channels / groups]."""
    return x.reshape(*x.shape[:axis], groups, -1, *x.shape[axis + 1 :])


def conv(op: Conv, inputs: list[Array], shape: Extents) -> Array:
    (x, w), spec = inputs, op.spec
    out, kernel = shape[2:], w.shape[2:]
    padded = _pad_spatial(x, spec, _padded_extents(spec, x.shape[2:], kernel, out))
    total = np.zeros((shape[0], spec.groups, w.shape[0] // spec.groups, *out), x.dtype)
    weight = _grouped(w, spec.groups, 0)
    for tap, read in _taps(spec, kernel, out):
        taken = _grouped(padded[read], spec.groups, 1)
        total += np.einsum("ngi...,goi->ngo...", taken, weight[(..., *tap)])
    return total.reshape(shape)


def conv_input_grad(op: ConvInputGrad, inputs: list[Array], shape: Extents) -> Array:
    (g, w), spec = inputs, op.spec
    kernel, spatial = w.shape[2:], shape[2:]
    extents = _padded_extents(spec, spatial, kernel, g.shape[2:])
    total = np.zeros((*shape[:2], *extents), g.dtype)
    grad, weight = _grouped(g, spec.groups, 1), _grouped(w, spec.groups, 0)
    for tap, read in _taps(spec, kernel, g.shape[2:]):
        part = np.einsum("ngo...,goi->ngi...", grad, weight[(..., *tap)])
        total[read] += part.reshape(*shape[:2], *g.shape[2:])
    crop = [slice(p, p + n) for p, n in zip(spec.padding, spatial, strict=True)]
    return total[(slice(None), slice(None), *crop)]


def conv_weight_grad(op: ConvWeightGrad, inputs: list[Array], shape: Extents) -> Array:
    (g, x), spec = inputs, op.spec
    kernel, out = shape[2:], g.shape[2:]
    padded = _pad_spatial(x, spec, _padded_extents(spec, x.shape[2:], kernel, out))
    total: Array = np.zeros(shape, g.dtype)
    grad = _grouped(g, spec.groups, 1).reshape(g.shape[0], spec.groups, -1, *out)
    flat = grad.reshape(*grad.shape[:3], -1)
    for tap, read in _taps(spec, kernel, out):
        taken = _grouped(padded[read], spec.groups, 1)
        taken = taken.reshape(*taken.shape[:3], -1)
        part = np.einsum("ngop,ngip->goi", flat, taken)
        total[(..., *tap)] = part.reshape(shape[:2])
    return total
