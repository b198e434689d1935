"""The operations a captured graph is made of: ATen's own where they suit a compiler, ours else.

`CORE_OPS` is the complete list that `decompositions.py` and `canonicalize.py` aim at.  An operation
that they do not know keeps its ATen name and reaches lowering, which reports it with its origin.

Conventions, so that lowering needs no cases:
- Tensor operands of a pointwise operation have one dtype (casts are explicit) and broadcast as in
  NumPy.  A scalar operand (int, float, bool, Dim, BatchScalar) may stand in place of any of them
  and takes the dtype of the tensor operands.
- No kwargs.  Optional arguments are always written out.  Axes are sorted and non-negative.
- No aliasing, no in-place operation, no memory format: every value is a fresh row-major tensor.
- An integer that depends on the batch size is a Dim, a float that does is a BatchScalar.
"""

from __future__ import annotations

_UNARY = (
    *("abs", "neg", "sign", "floor", "ceil", "round", "trunc"),
    *("exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "rsqrt", "reciprocal"),
    *("sin", "cos", "tan", "asin", "acos", "atan"),
    *("sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
    *("sigmoid", "erf", "erfc", "relu", "isnan", "isinf", "logical_not"),
)
_BINARY = ("add", "sub", "mul", "div", "maximum", "minimum", "atan2", "fmod", "remainder")
_COMPARE = ("eq", "ne", "lt", "le", "gt", "ge")
_BITWISE = ("bitwise_and", "bitwise_or", "bitwise_xor")
_SHIFTS = ("bitwise_left_shift", "bitwise_right_shift")
_DEFAULT_OVERLOAD = frozenset(("maximum", "minimum", "atan2"))


def _binary_name(op: str) -> str:
    return f"aten.{op}.{'default' if op in _DEFAULT_OVERLOAD else 'Tensor'}"


UNARY_OPS = tuple(f"aten.{op}.default" for op in _UNARY)
BINARY_OPS = tuple(map(_binary_name, _BINARY))
COMPARE_OPS = tuple(f"aten.{op}.Tensor" for op in _COMPARE)
BITWISE_OPS = tuple(f"aten.{op}.Tensor" for op in _BITWISE)
SHIFT_OPS = tuple(f"aten.{op}.Tensor" for op in _SHIFTS)

POINTWISE_OPS: dict[str, str] = {
    **dict.fromkeys(UNARY_OPS, "(x) -> same shape"),
    **dict.fromkeys(BINARY_OPS, "(a, b) -> broadcast; div is true division"),
    **dict.fromkeys(COMPARE_OPS, "(a, b) -> bool"),
    **dict.fromkeys(BITWISE_OPS, "(a, b) of bool or integers"),
    **dict.fromkeys(SHIFT_OPS, "(a, b) of integers; a shift by less than 0 or all bits moves all"),
    "aten.floor_divide.default": "(a, b) of integers, rounded down; by zero it is by one",
    "aten.pow.Tensor_Scalar": "(x, exponent)",
    "aten.pow.Scalar": "(base, x); 1 - pow(beta, step) is an Adam bias correction",
    "aten.pow.Tensor_Tensor": "(x, exponent)",
    "aten.where.self": "(condition: bool, a, b)",
    "aten.threshold_backward.default": "(g, x, threshold) -> 0 where x <= threshold, else g",
    "hearth.cast": "(x, dtype); float to integer truncates, anything to bool is != 0",
    "hearth.index_range": "(y, size, except_value: int | None) -> y, a promise about the values: "
    "0 <= y < size or y == except_value",
    "hearth.recompute": "(x, region: int) -> x, for what is computed once more in that region",
}

REDUCE_OPS: dict[str, str] = {
    "aten.sum.dim_IntList": "(x, axes, keepdim)",
    "aten.prod.dim_int": "(x, axes, keepdim)",
    "aten.amax.default": "(x, axes, keepdim)",
    "aten.amin.default": "(x, axes, keepdim)",
    "aten.argmax.default": "(x, axis: int | None, keepdim) -> int64, the first of equal ones",
    "aten.argmin.default": "(x, axis: int | None, keepdim) -> int64, the first of equal ones",
}

VIEW_OPS: dict[str, str] = {
    "aten.reshape.default": "(x, shape) row-major, shape written out without -1",
    "aten.permute.default": "(x, axes)",
    "aten.expand.default": "(x, shape) same rank or leading axes added, shape written out",
    "aten.slice.Tensor": "(x, axis, start, stop, step) 0 <= start <= stop <= extent, step >= 1",
    "aten.flip.default": "(x, axes)",
    "aten.cat.default": "((x, ...), axis)",
    "aten.constant_pad_nd.default": "(x, ((before, after) per axis, from axis 0), value); "
    "negative amounts crop",
}

CONTRACTION_OPS: dict[str, str] = {
    "aten.mm.default": "([M,K], [K,N]) -> [M,N]",
    "aten.bmm.default": "([G,M,K], [G,K,N]) -> [G,M,N]",
    "aten.convolution.default": "(x, w, bias | None, stride, padding, dilation, transposed, "
    "output_padding, groups)",
    "hearth.conv_input_grad": "(g, w, x_shape, stride, padding, dilation, transposed, "
    "output_padding, groups)",
    "hearth.conv_weight_grad": "(g, x, w_shape, stride, padding, dilation, transposed, "
    "output_padding, groups)",
}

_MAX_POOL = "(x, kernel, stride, padding, dilation, ceil_mode) -> (values, indices: int64 into the "
_MAX_POOL += "flattened input plane or volume)"
_AVG_POOL = "(x, kernel, stride, padding, ceil_mode, count_include_pad, divisor: int | None)"
POOL_OPS: dict[str, str] = {
    "aten.max_pool2d_with_indices.default": _MAX_POOL,
    "aten.max_pool3d_with_indices.default": _MAX_POOL,
    "hearth.max_pool_grad": "(g, indices, x_shape, kernel, stride, padding, dilation)",
    "aten.avg_pool2d.default": _AVG_POOL,
    "aten.avg_pool3d.default": _AVG_POOL,
    "hearth.avg_pool_grad": "(g, x_shape, kernel, stride, padding, ceil_mode, count_include_pad, "
    "divisor: int | None)",
    "hearth.window": "(x: [..., *spatial], kernel, stride, padding, dilation) -> "
    "[..., *positions, *kernel], zeros in the padding",
}

INDEX_OPS: dict[str, str] = {
    "aten.index_select.default": "(x, axis, indices: integer [N])",
    "aten.gather.default": "(x, axis, indices: integer, no longer than x along the other axes)",
    "hearth.index_add": "(g: [N, ...], indices: integer [N], size) -> [size, ...], zeros plus g at "
    "its row; an index outside adds nowhere",
    "hearth.order": "(x, count, descending) -> int64, the positions of the first count elements of "
    "the last axis, NaN as the largest, equals in their order",
    "hearth.scan": "(x, kind) -> every element of the last axis with all before it; kind is sum, "
    "prod, max, min or logsumexp",
}

CREATE_OPS: dict[str, str] = {
    "aten.full.default": "(shape, value) of the node's dtype",
    "hearth.iota": "(length, start, step) -> [length] of the node's dtype",
    "hearth.rand": "(seed: uint32[2], step: int32[], shape, stream: int) -> float32 uniform in "
    "[0, 1), Philox as in spec/manifest.md",
}

CORE_OPS: dict[str, str] = {
    **POINTWISE_OPS,
    **REDUCE_OPS,
    **VIEW_OPS,
    **CONTRACTION_OPS,
    **POOL_OPS,
    **INDEX_OPS,
    **CREATE_OPS,
}
