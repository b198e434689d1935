"""`torch.autocast` with CUDA's lists, for tensors on the CPU.

What people know as autocast are the lists of CUDA: products in half, and softmax, norms, sums,
`exp`, `log` and losses in float32.  PyTorch's lists for the CPU lack some of them.  While the
context lasts the operations below have a kernel in front of the CPU's own as CUDA has one, both in
traces and in eager PyTorch, and a region that a model opens for "cuda" counts for its tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.utils import _pytree as pytree

HALVES = (torch.float16, torch.bfloat16)

# Operations of CUDA's lists that the CPU's lack (aten/src/ATen/autocast_mode.h).
FLOAT32_LIST = (
    *("acos", "asin", "cosh", "erfinv", "exp", "expm1", "log", "log10", "log2", "log1p"),
    *("reciprocal", "rsqrt", "sinh", "tan", "softplus", "renorm", "logsumexp"),
    *("pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar"),
    *("layer_norm", "native_layer_norm", "group_norm", "rms_norm"),
    *("frobenius_norm.dim", "nuclear_norm", "nuclear_norm.dim", "norm.Scalar"),
    *("norm.ScalarOpt_dim", "cosine_similarity", "dist", "pdist"),
    *("linalg_vector_norm", "linalg_matrix_norm", "linalg_matrix_norm.str_ord"),
    *("softmax.int", "log_softmax.int", "cumprod", "cumsum", "sum", "sum.dim_IntList"),
    *(f"upsample_nearest{rank}d" for rank in (1, 2, 3)),
    *(f"_upsample_nearest_exact{rank}d" for rank in (1, 2, 3)),
    *("upsample_linear1d", "upsample_bilinear2d", "_upsample_bilinear2d_aa"),
    *("upsample_trilinear3d", "upsample_bicubic2d", "_upsample_bicubic2d_aa"),
)
HALF_LIST = ("mv", "addmv", "addr")  # others of the list consist of operations that both have
WIDEST_LIST = (
    *("addcdiv", "addcmul", "atan2", "bilinear", "cross", "dot", "vdot"),
    *("index_put", "scatter_add", "tensordot"),
)
# Made of operations of the lists, or not for the CPU.
NOT_NEEDED = (
    *("_convolution", "convolution", "cudnn_convolution", "cudnn_convolution_transpose"),
    *("chain_matmul", "einsum", "linalg_multi_dot", "_scaled_dot_product_flash_attention"),
    *("gru_cell", "lstm_cell", "rnn_relu_cell", "rnn_tanh_cell"),
    *("_thnn_fused_gru_cell", "_thnn_fused_lstm_cell"),
)
Chosen = Callable[[list[torch.Tensor]], torch.dtype]
_KEYS = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)


@contextmanager
def as_on_cuda() -> Iterator[None]:
    """Autocast regions do on the CPU what they do on CUDA, for as long as the context lasts."""
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    kinds: dict[str, Chosen] = {**dict.fromkeys(FLOAT32_LIST, _float32)}
    kinds.update(dict.fromkeys(HALF_LIST, _half))
    kinds.update(dict.fromkeys(WIDEST_LIST, _widest))
    for name, chosen in kinds.items():
        library.impl(name, _kernel(name, chosen), "AutocastCPU")  # type: ignore[no-untyped-call]
    try:
        with mock.patch.object(torch.autocast, "__init__", _for_cpu(torch.autocast.__init__)):
            yield
    finally:
        library._destroy()  # type: ignore[no-untyped-call]


def _float32(_: list[torch.Tensor]) -> torch.dtype:
    return torch.float32


def _half(_: list[torch.Tensor]) -> torch.dtype:
    return torch.get_autocast_dtype("cpu")


def _widest(tensors: list[torch.Tensor]) -> torch.dtype:
    is_wide = any(t.dtype == torch.float32 for t in tensors)
    return torch.float32 if is_wide else torch.get_autocast_dtype("cpu")


def _kernel(name: str, chosen: Chosen) -> Callable[..., Any]:
    packet, _, overload = name.partition(".")
    function = getattr(getattr(torch.ops.aten, packet), overload or "default")

    def kernel(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(_KEYS):
            leaves = pytree.tree_leaves((args, kwargs))
            dtype = chosen([x for x in leaves if isinstance(x, torch.Tensor)])
            args, kwargs = pytree.tree_map_only(
                torch.Tensor, lambda x: x.to(dtype) if _is_cast(x) else x, (args, kwargs)
            )
            return function(*args, **kwargs)

    return kernel


def _is_cast(x: torch.Tensor) -> bool:
    return x.dtype in (torch.float32, *HALVES)


def _for_cpu(initialize: Callable[..., None]) -> Callable[..., None]:
    """A region for "cuda" becomes one for the CPU, with CUDA's default type."""

    def init(
        self: Any,
        device_type: str,
        dtype: Any = None,
        enabled: bool = True,
        *rest: Any,
        **given: Any,
    ) -> None:
        if device_type == "cuda":
            device_type, dtype = "cpu", dtype or torch.get_autocast_dtype("cuda")
        initialize(self, device_type, dtype, enabled, *rest, **given)

    return init
