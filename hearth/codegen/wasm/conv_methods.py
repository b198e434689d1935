"""Which way each convolution is computed: by its shape and by how many images there are.

Work is a fixed part (transforms of filters) and one per image.  So a method that is best for few
images may lose for many; a kernel then has both, and takes the one that its batch asks for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from hearth.codegen.wasm import conv, conv_weights, fourier, fourier_dense, winograd
from hearth.codegen.wasm.assembler import op
from hearth.codegen.wasm.conv_emitter import ConvEmitter, images_of
from hearth.codegen.wasm.cook_toom import Filtering, filtering, gradient_filtering, outputs_of
from hearth.codegen.wasm.fourier_tiling import CYCLE_WORK, costs_of, is_dense, tiling
from hearth.codegen.wasm.geometry import Shape2d
from hearth.codegen.wasm.kernels import (
    ConvMethod,
    ConvMethods,
    KernelFunction,
    Target,
    new_function,
    parameters,
)
from hearth.codegen.wasm.microkernels import PANEL
from hearth.codegen.wasm.strands import LANES
from hearth.codegen.wasm.vectorize import TYPICAL_BATCH
from hearth.codegen.wasm.windows import MOST_TOTALS
from hearth.codegen.wasm.winograd_tiling import round_up, tile_counts
from hearth.ir.kernel import ConvTemplate, Kernel

# In multiply-adds of a product that runs at full speed.
SUM_WORK = 8  # of a sum of a direct product, beyond its terms
DOT_WORK = 16  # the same of a weight's gradient, of each image
TURN_WORK = 20  # of packing a weight for the input gradient
WINDOW_WORK = 1.5  # of a term of a large window over one channel: weights leave the registers
TRANSFORM_WORK = 4.2  # of an element of a tile
TILE_SUM_WORK = 3  # of a sum of a product of tiles, beyond its terms
FILTER_WORK = 7.5  # of an element of a transformed filter
WORTH_BOTH = 1.15  # how much faster a second method must be for one image


@dataclass(frozen=True)
class Work:
    """Multiply-adds, as if everything ran at the speed of matrix products."""

    fixed: float
    per_image: float

    def of(self, images: float) -> float:
        return self.fixed + self.per_image * images


@dataclass(frozen=True)
class Choice:
    """A method, and from a number of images on another; equal where one serves all."""

    few: ConvMethod
    many: ConvMethod
    from_images: int

    def of(self, images: int) -> ConvMethod:
        return self.many if images >= self.from_images else self.few


def conv_function(target: Target, kernel: Kernel, template: ConvTemplate) -> KernelFunction:
    """The kernel with its convolution in the best way that the target allows; rank 1 or 2."""
    choice = choose(template, target.methods)
    if choice.few == choice.many:
        return _emitter(target, kernel, template, choice.many).finished()
    few, many = (
        _emitter(target, kernel, template, method).finished()
        for method in (choice.few, choice.many)
    )
    f = new_function(kernel)
    arguments = parameters(f)
    is_many = op("i32.ge_u", images_of(f, template), choice.from_images)
    for part, condition in ((many, is_many), (few, op("i32.eqz", is_many))):
        with f.if_(condition):
            f.perform(f.call(part.function, *arguments))
    scratch = max(few.scratch_bytes, many.scratch_bytes)
    return KernelFunction(target.module.add(f), scratch, is_serial=False)


def _emitter(target: Target, kernel: Kernel, t: ConvTemplate, method: ConvMethod) -> ConvEmitter:
    shape, is_weights = Shape2d.of(t), t.kind == "weight_grad"
    if method == ConvMethod.DIRECT:
        direct = conv_weights.Weights if is_weights else conv.Images
        return direct(target, kernel, t, shape)
    if method == ConvMethod.FOURIER:
        own = tiling(shape, t.kind)
        assert own is not None
        forms: tuple[Callable[..., ConvEmitter], ...] = (fourier.Images, fourier.Weights)
        if is_dense(shape):
            forms = (fourier_dense.Images, fourier_dense.Weights)
        return forms[is_weights](target, kernel, t, shape, own)
    filterings = filterings_of(shape, t.kind, method)
    assert filterings is not None
    tiled = winograd.Weights if is_weights else winograd.Images
    return tiled(target, kernel, t, shape, filterings)


def method_of(kernel: Kernel, allowed: ConvMethods,
              batch: int = TYPICAL_BATCH) -> ConvMethod | None:  # fmt: skip
    """What a kernel takes for a batch, if it is a convolution of rank 1 or 2."""
    t, choice = kernel.template, choice_of(kernel, allowed)
    return choice.of(t.batch.at(batch)) if choice and isinstance(t, ConvTemplate) else None


def choice_of(kernel: Kernel, allowed: ConvMethods) -> Choice | None:
    """What a kernel holds, if it is a convolution of rank 1 or 2."""
    t = kernel.template
    if not isinstance(t, ConvTemplate) or t.spec.rank > 2:
        return None
    return choose(t, allowed)


def is_possible(kernel: Kernel, method: ConvMethod) -> bool:
    """Whether a convolution can be computed in this way."""
    t = kernel.template
    return isinstance(t, ConvTemplate) and work(Shape2d.of(t), t.kind, method) is not None


def choose(t: ConvTemplate, allowed: ConvMethods) -> Choice:
    """The allowed methods of least work for one image and for many; of equals the first."""
    shape = Shape2d.of(t)
    works = {m: w for m in allowed.of(t.kind) if (w := work(shape, t.kind, m)) is not None}
    if not works:
        return Choice(ConvMethod.DIRECT, ConvMethod.DIRECT, 0)
    least, typical = t.batch.at(1), t.batch.at(TYPICAL_BATCH)
    few, many = (min(works, key=lambda m: works[m].of(n)) for n in (least, typical))
    one, other = works[few], works[many]
    if one.of(least) * WORTH_BOTH > other.of(least):
        return Choice(many, many, 0)
    meet = (other.fixed - one.fixed) / (one.per_image - other.per_image)
    return Choice(few, many, math.ceil(meet))


def work(s: Shape2d, kind: str, method: ConvMethod) -> Work | None:
    """How much a method has to do; None where it cannot compute the convolution.

    Fitted to what `bench/wasm_convolutions.py` measures for 1, 8 and 32 images: of the methods for
    30 shapes in three passes, the one that this prefers takes 0.6 % longer than the best on average
    and 12 % at most.  Of large windows (`bench/wasm_large_windows.py`), for 38 shapes and 1 and 8
    images: 1.2 % on average; 41 % at most, for one image.
    """
    if method == ConvMethod.DIRECT:
        return _direct_work(s, kind)
    if method == ConvMethod.FOURIER:
        return _fourier_work(s, kind)
    filterings = filterings_of(s, kind, method)
    return None if filterings is None else _tiled_work(s, kind, *filterings)


def _direct_work(s: Shape2d, kind: str) -> Work:
    taps, pairs = float(len(s.taps)), s.in_channels * s.out_channels // s.groups
    if s.in_channels == s.out_channels == s.groups and taps > MOST_TOTALS:
        taps *= WINDOW_WORK
    gaps = s.taps[-1][1]  # the positions between two rows of a plane
    rows, columns = s.image if kind == "input_grad" else s.result
    positions = rows * (columns + gaps)
    if kind == "weight_grad":
        dots = taps * pairs
        return Work(DOT_WORK * dots, dots * (positions + DOT_WORK))
    if kind == "forward":
        return Work(0, positions * (taps * pairs + SUM_WORK * s.out_channels))
    sums = positions * (taps * pairs / math.prod(s.stride) + SUM_WORK * s.in_channels)
    return Work(TURN_WORK * taps * pairs, sums)


def _tiled_work(s: Shape2d, kind: str, y: Filtering, x: Filtering) -> Work:
    products = y.size * x.size
    extents = s.image if kind == "input_grad" else s.result
    rows, columns = tile_counts((y.outputs, x.outputs), extents)
    sources, targets = s.in_channels, s.out_channels
    if kind == "weight_grad":
        multiplied = round_up(sources, PANEL) * round_up(targets, LANES)
    else:
        if kind == "input_grad":
            sources, targets = targets, sources
        multiplied = (sources + TILE_SUM_WORK) * round_up(targets, PANEL)
    transformed = TRANSFORM_WORK * (round_up(sources, LANES) + round_up(targets, LANES))
    filters = FILTER_WORK * sources * targets
    return Work(products * filters, products * rows * columns * (multiplied + transformed))


def _fourier_work(s: Shape2d, kind: str) -> Work | None:
    is_plain = (s.stride, s.dilation) == ((1, 1), (1, 1)) and len(s.taps) > 1
    is_depthwise = s.groups == s.in_channels == s.out_channels
    own = tiling(s, kind) if is_plain and (is_depthwise or is_dense(s)) else None
    if own is None:
        return None
    costs = costs_of(own, s, kind)
    return Work(CYCLE_WORK * costs.filter_cycles,
                CYCLE_WORK * costs.image_cycles + costs.products)  # fmt: skip


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
