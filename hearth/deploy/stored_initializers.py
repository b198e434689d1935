"""Weights of an ONNX file in fewer bytes, with the node behind each that gives float32 back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hearth.bundle.quantized import dequantize, quantize

Array = NDArray[Any]
_FEW: Final = 64  # constants such as shapes and scalars of the exporter stay
_ROUNDING: Final = 1e-6  # of the largest value: a scale found again differs in its last bit


def store_initializers(data: bytes, precision: str) -> bytes:
    """The model with float16 or int8 initializers instead of float32 ones.

    float16 takes tensors of at least 64 elements, int8 those of two dimensions or more, and only
    where the precision has their very values: the model computes the same outputs as before.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(data)
    nodes, kept = [], []
    store = _half if precision == "float16" else _int8
    for initializer in model.graph.initializer:
        array = numpy_helper.to_array(initializer)
        stored = None
        if array.dtype == np.float32 and array.size >= _FEW:
            stored = store(initializer.name, array)
        if stored is None:
            kept.append(initializer)
            continue
        kept += [numpy_helper.from_array(a, name) for name, a in stored.tensors.items()]
        nodes.append(stored.node)
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    behind = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *behind])
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString()
    return serialized


@dataclass(frozen=True)
class _Stored:
    """What replaces an initializer: tensors, and the node that makes it of them."""

    tensors: dict[str, Array]
    node: Any


def _half(name: str, array: Array) -> _Stored | None:
    from onnx import TensorProto, helper

    half = array.astype(np.float16)
    if not np.array_equal(half.astype(np.float32), array):
        return None
    stored = f"{name}/float16"
    return _Stored({stored: half}, helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))


def _int8(name: str, array: Array) -> _Stored | None:
    """The exporter may have transposed a weight: its channels lie along whichever axis fits."""
    from onnx import helper

    if array.ndim < 2:
        return None
    for axis in range(array.ndim):
        turned = np.moveaxis(array, axis, 0)
        codes, scale = quantize(turned, name)
        if np.abs(dequantize(codes, scale) - turned).max() <= _ROUNDING * np.abs(array).max():
            names = [f"{name}/int8", f"{name}/scale"]
            tensors = [np.ascontiguousarray(np.moveaxis(codes, 0, axis)), scale]
            node = helper.make_node("DequantizeLinear", names, [name], axis=axis)
            return _Stored(dict(zip(names, tensors, strict=True)), node)
    return None
