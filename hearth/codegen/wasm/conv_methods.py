"""Which way each convolution is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hearth.codegen.wasm import conv, winograd
from hearth.codegen.wasm.conv_emitter import ConvEmitter
from hearth.codegen.wasm.cook_toom import filtering
from hearth.codegen.wasm.geometry import Shape2d
from hearth.codegen.wasm.kernels import ConvMethod, ConvMethods, KernelFunction, Target
from hearth.codegen.wasm.vectorize import TYPICAL_BATCH
from hearth.codegen.wasm.winograd_transforms import WINDOW
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
        tiles = filtering(method.value)
        of = winograd.Weights if is_weights else winograd.Images
        emitter = of(target, kernel, template, shape, tiles)
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
    if (s.kernel, s.stride, s.dilation, s.groups) != ((WINDOW, WINDOW), (1, 1), (1, 1), 1):
        return math.inf
    m: int = method.value
    tiles = TYPICAL_BATCH * -(-rows // m) * -(-columns // m)
    transformed = tiles * (s.in_channels + s.out_channels) + pairs
    points = filtering(m).size ** 2
    return points * (tiles * pairs + TRANSFORM_WORK * transformed)
