"""ONNX files of trained models, by PyTorch's own exporter, checked with ONNX Runtime.

`float16` and `int8` store the weights in fewer bytes and compute in float32 (the file holds a cast
or DequantizeLinear behind each weight); `int8-dynamic` also multiplies in int8, with activations
quantized while it runs (ONNX Runtime's own quantizer).
"""

from __future__ import annotations

import copy
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils import _pytree as pytree

from hearth.bundle.files import write_file
from hearth.bundle.quantized import dequantize, quantize
from hearth.deploy.stored_initializers import store_initializers
from hearth.errors import BackendError, InvalidInputError

Array = NDArray[Any]
OnnxPrecision = Literal["float32", "float16", "int8", "int8-dynamic"]

PRECISIONS: Final[tuple[OnnxPrecision, ...]] = get_args(OnnxPrecision)
TOLERANCE: Final = 1e-4  # of the largest output: two float32 libraries, in other orders
_BATCHES: Final = (2, 5)  # the batch stays free: two sizes show it


def export_onnx(
    model: nn.Module,
    examples: torch.Tensor | Sequence[torch.Tensor],
    path: str | Path,
    *,
    weights: Mapping[str, torch.Tensor] | None = None,
    precision: OnnxPrecision = "float32",
) -> None:
    """Writes a model, in evaluation mode and with a free batch size, as ONNX.

    Args:
        model: stays as it is.
        examples: inputs, one tensor or several; dimension 0 is the batch.
        path: of the file.
        weights: a state_dict to use instead of the model's, as `hearth.load_weights` gives it.
        precision: "float32", "float16", "int8" (weights only) or "int8-dynamic".

    Raises:
        InvalidInputError: the onnx packages are missing, or the precision does not exist.
        BackendError: ONNX Runtime computes other outputs than PyTorch.

    >>> hearth.export_onnx(model, torch.zeros(2, 784), "model.onnx")  # doctest: +SKIP
    """
    if precision not in PRECISIONS:
        raise InvalidInputError(
            f"there is no precision {precision!r}", remedy=f"choose from {', '.join(PRECISIONS)}"
        )
    require_onnx()
    given = (examples,) if isinstance(examples, torch.Tensor) else tuple(examples)
    exported = copy.deepcopy(model).eval()
    if weights is not None:
        exported.load_state_dict(weights)
    if precision in ("float16", "int8"):
        _round_weights(exported, precision)
    data = _export(exported, given)
    if precision in ("float16", "int8"):
        data = store_initializers(data, precision)
    if precision == "int8-dynamic":
        data = _quantize_dynamically(data)
    else:
        _check(exported, data, given)
    write_file(path, data)


def run_onnx(path: str | Path | bytes, inputs: Sequence[Array]) -> list[Array]:
    """The outputs of an ONNX file on one batch, computed by ONNX Runtime on one CPU thread."""
    return open_onnx(path)(inputs)


def open_onnx(path: str | Path | bytes) -> Callable[[Sequence[Array]], list[Array]]:
    """The function that `run_onnx` calls, for many batches: the file is read once."""
    require_onnx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # Else ONNX Runtime multiplies int8 weights by activations that it quantizes, too.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    model = path if isinstance(path, bytes) else str(path)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]

    def run(inputs: Sequence[Array]) -> list[Array]:
        outputs: list[Array] = session.run(None, dict(zip(names, inputs, strict=True)))
        return outputs

    return run


def require_onnx() -> None:
    """Raises `InvalidInputError` with the command that installs what is missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InvalidInputError(
            "exporting ONNX needs more packages",
            why=str(error),
            remedy="pip install 'hearth[onnx]'",
        ) from error


def _round_weights(model: nn.Module, precision: OnnxPrecision) -> None:
    """The weights that the stored form gives back, so that the file and the model are equal."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dtype != torch.float32:
                continue
            if precision == "float16":
                parameter.copy_(parameter.half().float())
            elif parameter.dim() >= 2:
                codes, scale = quantize(parameter.numpy(), name)
                parameter.copy_(torch.from_numpy(dequantize(codes, scale)))


def _export(model: nn.Module, examples: tuple[torch.Tensor, ...]) -> bytes:
    batch = torch.export.Dim("batch")
    # A batch of one would become a constant of the file.
    several = tuple(_rows(x, _BATCHES[0]) for x in examples)
    with _quiet():
        program = torch.onnx.export(
            model,
            several,
            dynamo=True,
            dynamic_shapes=tuple({0: batch} for _ in several),
            input_names=[f"input_{i}" for i in range(len(several))],
            external_data=False,
            verbose=False,
        )
    assert program is not None  # it is None only where a file is written
    data: bytes = program.model_proto.SerializeToString()
    return data


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports what it does not find (torchvision), and warns of its own insides."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _quantize_dynamically(data: bytes) -> bytes:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # Its advice to preprocess concerns shapes that PyTorch's exporter has already inferred.
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "int8.onnx"
            quantize_dynamic(
                onnx.load_from_string(data), path, per_channel=True, weight_type=QuantType.QInt8
            )
            return path.read_bytes()
    finally:
        root.setLevel(level)


def _check(model: nn.Module, data: bytes, examples: tuple[torch.Tensor, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    run = open_onnx(data)
    for rows in _BATCHES:
        inputs = tuple(_random(x, rows, generator) for x in examples)
        with torch.no_grad():
            wanted = model(*inputs)
        ours = run([x.numpy() for x in inputs])
        theirs = [x.numpy() for x in pytree.tree_leaves(wanted)]
        for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            largest = float(np.abs(b).max(initial=0.0))
            error = float(np.abs(a - b).max(initial=0.0))
            if not error <= TOLERANCE * max(1.0, largest):
                raise BackendError(
                    f"output {index} of the ONNX file is off by {error:.1e} at batch {rows}",
                    why=f"PyTorch and ONNX Runtime must agree within {TOLERANCE:.0e}",
                    remedy="report the model: its exporter or ONNX Runtime computes otherwise",
                )


def _random(example: torch.Tensor, rows: int, generator: torch.Generator) -> torch.Tensor:
    """Normal numbers; whole numbers as in the example, whose range nobody else knows."""
    several = _rows(example, rows)
    if not several.is_floating_point():
        return several
    return torch.randn(several.shape, generator=generator)


def _rows(example: torch.Tensor, rows: int) -> torch.Tensor:
    times = -(-rows // len(example))
    return torch.cat([example] * times)[:rows].contiguous()
