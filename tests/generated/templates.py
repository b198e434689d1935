"""The statements of random networks: each is a function of the writer that gives an expression."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.generated.networks import Template, Writer

UNARY = (
    "torch.tanh({})", "torch.sin({})", "torch.sigmoid({})", "F.gelu({})", "F.silu({})",
    "F.softplus({})", "torch.relu({})", "{}.abs()", "torch.sqrt({}.abs() + 1)", "torch.atan({})",
    "torch.exp(-{}.abs())", "torch.log1p({}.abs())", "{}.clamp(-1.5, 0.75)", "F.elu({})",
    "F.leaky_relu({}, 0.1)", "{}.square()", "-{}", "{} * 0.5 + 1", "{}.detach() * 2", "{}.clone()",
    "F.hardswish({})", "F.mish({})", "{}.erf()", "F.dropout({}, 0.3)",
    "torch.where({} > 0, 1.0, 0.5)",
)  # fmt: skip
BINARY = (
    "{} + {}", "{} - {}", "{} * {}", "{} / (1 + {}.abs())", "torch.maximum({}, {})",
    "torch.minimum({}, {})", "torch.atan2({}, {} + 3)", "torch.hypot({}, {} + 1)",
)  # fmt: skip
REDUCTIONS = ("sum", "mean", "amax", "amin", "logsumexp", "std", "prod", "norm")
ROWS = (
    "torch.softmax({}, {})", "torch.log_softmax({}, {})", "torch.cumsum({}, {})",
    "torch.sort({}, {})[0]", "{}.flip({})", "{}.roll(1, {})", "F.normalize({}, dim={})",
    "torch.cummax({}, {})[0]", "torch.diff({}, dim={})",
)  # fmt: skip


def unary(w: Writer) -> str:
    return str(w.choose(UNARY)).format(w.pick())


def binary(w: Writer) -> str:
    return str(w.choose(BINARY)).format(w.pick(), w.pick())


def select(w: Writer) -> str:
    return f"torch.where({w.pick()} > {w.pick()}, {w.pick()}, {w.pick()})"


def mixed(w: Writer) -> str:
    """A whole number or a truth value among floats."""
    x, n = w.pick(), w.pick(floats=False)
    options = (f"{x} * {n}", f"{n}.to({x}.dtype) + {x}", f"{x} + ({x} > 0)", f"{n} * 2 + 1",
               f"({n} > 2) & ({n} < 4)", f"{n} % 3", f"{n}.float().to({x}.dtype)")  # fmt: skip
    return str(w.choose(options))


def reduction(w: Writer) -> str:
    name, keep = w.choose(REDUCTIONS), w.draw(st.booleans())
    # The gradient of a product takes all elements but one, which a batch of one does not have.
    is_fixed = name in ("prod", "std")
    x = w.pick(least_rank=1, has_fixed=is_fixed)
    axis = w.axis(x, fixed=is_fixed)
    return f"{x}.{name}(dim={axis}, keepdim={keep})"


def row(w: Writer) -> str:
    x = w.pick(least_rank=1)
    return str(w.choose(ROWS)).format(x, w.axis(x, fixed=True))


def transpose(w: Writer) -> str:
    x = w.pick(least_rank=2)
    return f"{x}.transpose({w.axis(x)}, {w.axis(x)})"


def reshape(w: Writer) -> str:
    x = w.pick(least_rank=1)
    a = w.axis(x)
    extent = w.extent(x, a)
    factors = [f for f in range(1, extent + 1) if extent % f == 0]
    options = (f"{x}.flatten({w.integer(0, 2)})", f"{x}.unsqueeze({a})", f"{x}.squeeze({a})",
               f"{x}.unflatten({a}, ({w.choose(factors)}, -1))",
               f"{x}.reshape({x}.shape[0], -1)", f"{x}.flatten()")  # fmt: skip
    return str(w.choose(options))


def slices(w: Writer) -> str:
    x = w.pick(least_rank=1)
    axis = w.axis(x, fixed=True)
    extent = w.extent(x, axis)
    start = w.integer(0, max(extent - 1, 0))
    length = w.integer(1, max(extent - start, 1))
    before = ":, " * (axis % max(w.rank(x), 1))
    step = w.integer(1, 3)
    options = (f"{x}.narrow({axis}, {start}, {length})", f"{x}.select({axis}, {start})",
               f"{x}[{before}{start}:{start + length}:{step}]", f"{x}[..., {start}:]",
               f"{x}.index_select({axis}, torch.tensor([{start}, 0, {start}]))")  # fmt: skip
    return str(w.choose(options))


def join(w: Writer) -> str:
    x = w.pick(least_rank=1)
    axis = w.axis(x, fixed=True)
    options = (f"torch.cat([{x}, {x}], {axis})", f"torch.cat([{x}, {w.pick()}], {axis})",
               f"torch.stack([{x}, {w.pick()}, {x}], {axis})",
               f"F.pad({x}, ({w.integer(0, 2)}, {w.integer(-1, 2)}))",
               f"{x}.expand(3, *{x}.shape)", f"{x}.repeat_interleave(2, {axis})")  # fmt: skip
    return str(w.choose(options))


def linear(w: Writer) -> str:
    x = w.pick(least_rank=1)
    inner, outer = w.extent(x, -1), w.choose((1, 3, 5, 7))
    options = ("F.linear({x}, {w}, {b})", "{x} @ {w}.t() * {b}",
               "torch.einsum('...i,oi->...o', {x}, {w})")  # fmt: skip
    template = str(w.choose(options))
    return template.format(x=x, w=w.parameter(outer, inner), b=w.parameter(outer))


def product(w: Writer) -> str:
    x, y = w.pick(least_rank=2), w.pick(least_rank=2)
    return str(w.choose((f"{x} @ {x}.mT", f"{x}.mT @ {y}", f"{x} @ {y}", f"{x} @ {y}.mT / 3")))


def normalization(w: Writer) -> str:
    x = w.pick(least_rank=2)
    channels, last = w.extent(x, 1), w.extent(x, -1)
    options = (f"F.layer_norm({x}, [{last}], {w.parameter(last)})",
               f"F.batch_norm({x}, None, None, {w.parameter(channels)}, None, True)",
               f"F.group_norm({x}, {w.choose((1, channels))})",
               f"F.rms_norm({x}, [{last}])")  # fmt: skip
    return str(w.choose(options))


def lookup(w: Writer) -> str:
    x, n = w.pick(least_rank=1), w.pick(floats=False)
    axis = w.axis(x, fixed=True)
    order = f"{x}.argsort({axis})"
    options = (
        f"F.embedding({n} % 5, {w.parameter(5, 3)})",
        f"F.one_hot({n} % 5, 5) * 1.5",
        f"{x}.gather({axis}, {order})",
        f"{x}.take_along_dim({x}.argmax({axis}, keepdim=True), {axis})",
        f"{w.parameter(7)}[{n} % 7]",
        f"torch.zeros_like({x}).scatter_add({axis}, {order}, {x})",
    )
    return str(w.choose(options))


def image(w: Writer) -> str:
    x = w.pick(least_rank=4)
    channels, kernel = w.extent(x, 1), w.choose((1, 2, 3))
    stride, padding = w.integer(1, 2), w.integer(0, kernel // 2)
    out = w.choose((1, 2, 4))
    geometry = f"stride={stride}, padding={padding}"
    size = f"{kernel}, {kernel}"
    weights = [
        w.parameter(out, channels, kernel, kernel),
        w.parameter(channels, 1, kernel, kernel),
        w.parameter(channels, out, kernel, kernel),
    ]
    options = (
        f"F.conv2d({x}, {weights[0]}, {w.parameter(out)}, {geometry})",
        f"F.conv2d({x}, {weights[1]}, groups={channels}, {geometry})",
        f"F.conv_transpose2d({x}, {weights[2]}, {geometry})",
        f"F.max_pool2d({x}, ({size}), {geometry})",
        f"F.avg_pool2d({x}, ({size}), {geometry})",
        f"F.adaptive_avg_pool2d({x}, {w.integer(1, 3)})",
        f"F.pixel_unshuffle({x}, 2)",
        f"F.interpolate({x}, scale_factor=2, mode='{w.choose(('nearest', 'bilinear'))}')",
        f"F.pad({x}, (1, 1, 1, 0), mode='{w.choose(('reflect', 'replicate', 'circular'))}')",
        f"F.unfold({x}, {kernel}, {geometry})",
    )
    return str(w.choose(options))


def sequence(w: Writer) -> str:
    x = w.pick(least_rank=3)
    channels, kernel = w.extent(x, 1), w.choose((1, 2, 3))
    q = f"{x}, {x}, {x}"
    options = (f"F.conv1d({x}, {w.parameter(3, channels, kernel)}, padding={kernel // 2})",
               f"F.scaled_dot_product_attention({q}, is_causal={w.draw(st.booleans())})",
               f"F.max_pool1d({x}, 2)", f"{x}.unfold(-1, {kernel}, 1)",
               f"F.avg_pool1d({x}, {kernel}, ceil_mode=True)")  # fmt: skip
    return str(w.choose(options))


EVERYWHERE: tuple[Template, ...] = (
    unary, unary, binary, binary, select, mixed, reduction, row, transpose, reshape, slices, join,
    linear, product, normalization, lookup,
)  # fmt: skip
IMAGES: tuple[Template, ...] = (*EVERYWHERE, image, image, image, image)
SEQUENCES: tuple[Template, ...] = (*EVERYWHERE, sequence, sequence)
