"""Which way each convolution is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hearth.codegen.wasm import conv, winograd
from hearth.codegen.wasm.conv_emitter import ConvEmitter
from hearth.codegen.wasm.cook_toom import Filtering, filtering, gradient_filtering, outputs_of
from hearth.codegen.wasm.geometry import Shape2d
from hearth.codegen.wasm.kernels import ConvMethod, ConvMethods, KernelFunction, Target
from hearth.codegen.wasm.vectorize import TYPICAL_BATCH
from hearth.codegen.wasm.winograd_tiling import tile_counts
from hearth.ir.kernel import ConvTemplate, Kernel

TRANSFORM_WORK = 8  # of one element of a tile, in multiply-adds


def conv_function(target: Target, kernel: Kernel, template: ConvTemplate) -> KernelFunction:
    """The kernel with its convolution in the best way that the target allows; rank 1 or 2."""
    shape = Shape2d.of(template)
    method = choose(shape, template.kind, target.methods.of(template.kind))
    is_weights = template.kind == "weight_grad"
    emitter: ConvEmitter
    if method == ConvMethod.DIRECT:
        emitter = (conv.Weights if is_weights else conv.Images)(target, kernel, template, shape)
    else:
        filterings = filterings_of(shape, template.kind, method)
        assert filterings is not None
        of = winograd.Weights if is_weights else winograd.Images
        emitter = of(target, kernel, template, shape, filterings)
    return emitter.finished()


def method_of(kernel: Kernel, allowed: ConvMethods) -> ConvMethod | None:
    """What a kernel takes, if it is a convolution of rank 1 or 2."""
    t = kernel.template
    if not isinstance(t, ConvTemplate) or t.spec.rank > 2:
        return None
    return choose(Shape2d.of(t), t.kind, allowed.of(t.kind))


def is_possible(kernel: Kernel, method: ConvMethod) -> bool:
    """Whether a convolution can be computed in this way."""
    t = kernel.template
    return isinstance(t, ConvTemplate) and work(Shape2d.of(t), t.kind, method) < math.inf


def choose(s: Shape2d, kind: str, allowed: Sequence[ConvMethod]) -> ConvMethod:
    """The allowed method of least work; of equals the first."""
    works = {method: work(s, kind, method) for method in allowed}
    return min(works, key=lambda method: works[method])


def work(s: Shape2d, kind: str, method: ConvMethod) -> float:
    """Multiply-adds for a typical batch, as if everything ran at the speed of matrix products.

    Measured: `bench/wasm_convolutions.py`.
    """
    rows, columns = s.image if kind == "input_grad" else s.result
    pairs = s.in_channels * s.out_channels // s.groups
    if method == ConvMethod.DIRECT:
        gaps = s.taps[-1][1]  # the positions between two rows of a plane
        return len(s.taps) * TYPICAL_BATCH * rows * (columns + gaps) * pairs
    filterings = filterings_of(s, kind, method)
    if filterings is None:
        return math.inf
    y, x = filterings
    counts = tile_counts((y.outputs, x.outputs), (rows, columns))
    tiles = TYPICAL_BATCH * counts[0] * counts[1]
    transformed = tiles * (s.in_channels + s.out_channels) + pairs
    return y.size * x.size * (tiles * pairs + TRANSFORM_WORK * transformed)


def filterings_of(s: Shape2d, kind: str, method: ConvMethod) -> tuple[Filtering, Filtering] | None:
    """The minimal filtering of a method along y and x, where it can compute a convolution."""
    of = gradient_filtering if kind == "input_grad" else filtering
    axes = []
    for taps, stride, padding in zip(s.kernel, s.stride, s.padding, strict=True):
        outputs = 1 if (taps, stride) == (1, 1) else outputs_of(method.value, taps, stride)
        if outputs < min(taps, 2):
            return None
        axes.append(of(outputs, taps, stride, padding))
    is_plain = s.dilation == (1, 1) and s.groups == 1 and s.kernel != (1, 1)
    return (axes[0], axes[1]) if is_plain else None
