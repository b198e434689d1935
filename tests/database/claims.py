"""What Hearth claims of PyTorch's databases: everything but what is listed here, with its reason.

Three ways to be listed.  EXCLUDED operators fail, with an error that says so; where one passes,
the suite fails, so that the list cannot grow old.  LIMITS are for operators of which some samples
work: the others must be refused in these words.  UNTESTED operators have no right answer to
compare with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.database.cases import BACKWARD, FORWARD


@dataclass(frozen=True)
class Limit:
    """Samples that are refused with an error that contains these words."""

    words: str
    reason: str


Names = tuple[str, ...]

_COMPLEX = (
    *("cdouble", "cfloat", "chalf", "complex", "fft.fft", "fft.fft2", "fft.fftn", "fft.hfft"),
    *("fft.hfft2", "fft.hfftn", "fft.ifft", "fft.ifft2", "fft.ifftn", "fft.ihfft", "fft.ihfft2"),
    *("fft.ihfftn", "fft.irfft", "fft.irfft2", "fft.irfftn", "fft.rfft", "fft.rfft2", "fft.rfftn"),
    *("imag", "istft", "linalg.eig", "linalg.eigvals", "nn.functional.silu.complex", "polar"),
    *("stft", "view_as_complex", "view_as_real"),
)
_FACTORISATIONS = (
    *("cholesky", "cholesky_inverse", "cholesky_solve", "geqrf", "linalg.cholesky"),
    *("linalg.cholesky_ex", "linalg.cond", "linalg.det", "linalg.eigh", "linalg.eigvalsh"),
    *("linalg.householder_product", "linalg.inv", "linalg.inv_ex", "linalg.ldl_factor"),
    *("linalg.ldl_factor_ex", "linalg.ldl_solve", "linalg.lstsq", "linalg.lstsq.grad_oriented"),
    *("linalg.lu", "linalg.lu_factor", "linalg.lu_factor_ex", "linalg.lu_solve"),
    *("linalg.matrix_rank", "linalg.pinv", "linalg.pinv.hermitian"),
    *("linalg.pinv.singular", "linalg.qr", "linalg.slogdet", "linalg.solve", "linalg.solve_ex"),
    *("linalg.solve_triangular", "linalg.svd", "linalg.svdvals", "linalg.tensorinv"),
    *("linalg.tensorsolve", "logdet", "lu", "lu_solve", "lu_unpack", "matrix_exp", "norm.nuc"),
    *("ormqr", "pca_lowrank", "pinverse", "qr", "svd", "svd_lowrank", "triangular_solve"),
)

EXCLUDED: Mapping[str, Mapping[str, Names]] = {
    FORWARD: {
        "complex numbers have no place on the device": _COMPLEX,
        "dense factorisations are not lowered": _FACTORISATIONS,
        "the shape of the result depends on values": (
            *("argwhere", "bincount", "masked_select", "nonzero", "unique", "unique_consecutive"),
            "nn.functional.one_hot",  # of an unknown number of classes, in all its samples
        ),
        "programs take and return float32, int32, int64, uint32 and bool": (
            *("bfloat16", "byte", "char", "double", "float_power", "half", "short", "to"),
            *("log_softmax.with_dtype", "nn.functional.softmin.with_dtype", "softmax.with_dtype"),
            *("_batch_norm_with_update", "torch._scaled_mm", "torch._scaled_mm_v2"),
        ),
        "not lowered": (
            *("_segment_reduce.lengths", "_segment_reduce.offsets", "hash_tensor", "histogramdd"),
        ),
    },
    BACKWARD: {},
}

_VALUES = "only known when it runs"

LIMITS: Mapping[str, tuple[Limit, ...]] = {
    "__getitem__": (Limit(_VALUES, "the length of what a mask chooses depends on values"),),
    "gather": (Limit("uint8", "an index of uint8 is refused: programs do not take it"),),
    "linalg.matrix_norm": (Limit("_linalg_svd", "the norms by singular values are not lowered"),),
    "linalg.matrix_power": (Limit("linalg_inv_ex", "negative powers need the inverse"),),
    "linalg.matrix_rank.hermitian": (Limit("_linalg_eigh", "eigenvalues are not lowered"),),
    "linalg.norm": (Limit("_linalg_svd", "the norms by singular values are not lowered"),),
    "linalg.norm.subgradients_at_zero": (
        Limit("_linalg_svd", "the norms by singular values are not lowered"),
    ),
    "narrow": (Limit(_VALUES, "the start must be a number, not a tensor"),),
    "unravel_index": (Limit("not fit in 32 bits", "integers on devices have 32 bits"),),
    "repeat_interleave": (Limit(_VALUES, "repeats in a tensor need output_size"),),
    "tensor_split": (Limit(_VALUES, "the sections must be numbers, not a tensor"),),
}

UNTESTED: Mapping[str, Names] = {
    "memory that nobody wrote has no value to compare": (
        *("empty", "empty_like", "empty_permuted", "empty_strided", "new_empty"),
        "new_empty_strided",
    ),
    "gives no tensor": ("allclose", "broadcast_shapes", "equal", "item"),
    "sparse tensors are no dense memory": (
        *("sparse.mm.reduce", "sparse.sampled_addmm", "to_sparse"),
    ),
    "runs on CUDA only": (
        *("jiterator_2inputs_2outputs", "jiterator_4inputs_with_extra_args", "jiterator_binary"),
        *("jiterator_binary_return_by_ref", "jiterator_unary"),
        "nn.functional.batch_norm.without_cudnn",
        "torch.ops.aten._efficient_attention_forward",
        "torch.ops.aten._flash_attention_forward",
    ),
    "its samples read memory outside of their tensors": ("as_strided.partial_views",),
    "its samples hold a float32 tensor of their own": (
        *("nn.FractionalMaxPool2d", "nn.FractionalMaxPool3d"),
    ),
}


def excluded(direction: str) -> dict[str, str]:
    """Name -> reason; what has no forward pass has no gradient that one could claim."""
    found = {name: reason for reason, names in EXCLUDED[direction].items() for name in names}
    return {**excluded(FORWARD), **found} if direction == BACKWARD else found


def untested() -> dict[str, str]:
    return {name: reason for reason, names in UNTESTED.items() for name in names}
