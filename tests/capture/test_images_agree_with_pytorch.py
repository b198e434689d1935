"""Images, volumes, windows and pools, forward and gradient, in float64, equal PyTorch."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from tests.capture.scaled import Function, assert_equals_pytorch

SIGNAL, IMAGE, VOLUME = (3, 11), (2, 7, 9), (2, 3, 5, 4)


def distances(order: float) -> Function:
    return lambda x: torch.cdist(x, x.flip(1) * 2, order)


def warped(mode: str, padding: str, corners: bool) -> Function:
    """An image moved by an affine map that it determines itself, partly out of sight."""

    def function(x: torch.Tensor) -> torch.Tensor:
        theta = x[:, :, 0, :3] * 0.3 + torch.eye(2, 3, dtype=x.dtype) * 1.5
        grid = F.affine_grid(theta, [len(x), 2, 5, 6], corners)
        return F.grid_sample(x, grid, mode, padding, corners)

    return function


def unpooled(x: torch.Tensor) -> torch.Tensor:
    values, indices = F.max_pool2d(x, 3, 2, return_indices=True)
    return F.max_unpool2d(values, indices, [3, 3], [2, 2], output_size=x.shape[2:])


def warped_volume(mode: str, padding: str, corners: bool) -> Function:
    def function(x: torch.Tensor) -> torch.Tensor:
        theta = torch.eye(3, 4, dtype=x.dtype) * 1.5 + x[:, 0, :, 0, :] * 0.3
        return F.grid_sample(x, F.affine_grid(theta, [len(x), 2, 2, 3, 4], corners), mode, padding,
                             corners)  # fmt: skip

    return function


SIGNALS: dict[str, Function] = {
    "linear": lambda x: F.interpolate(x, 17, mode="linear"),
    "linear, corners": lambda x: F.interpolate(x, 5, mode="linear", align_corners=True),
    "nearest": lambda x: F.interpolate(x, 7),
    "nearest, repeated": lambda x: F.interpolate(x, 33),
    "nearest, exact": lambda x: F.interpolate(x, scale_factor=1.7, mode="nearest-exact"),
    "area": lambda x: F.interpolate(x, 4, mode="area"),
    "reflected": lambda x: F.pad(x, (4, 2), mode="reflect"),
    "reflected and cropped": lambda x: F.pad(x, (-3, 2), mode="reflect"),
    "replicated": lambda x: F.pad(x, (4, 2), mode="replicate"),
    "replicated and cropped": lambda x: F.pad(x, (2, -4), mode="replicate"),
    "adaptive maximum": lambda x: F.adaptive_max_pool1d(x, 4),
    "power average": lambda x: F.lp_pool1d(x.abs(), 3, 2),
    "unfolded": lambda x: x.unfold(2, 4, 3),
    "unfolded channels": lambda x: x.unfold(1, 2, 1),
    **{f"distances, order {p}": distances(p) for p in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, math.inf)},
    "distances by products": lambda x: torch.cdist(
        x, x * 2 + 1, compute_mode="use_mm_for_euclid_dist"
    ),
    "distances of pairs": lambda x: F.pdist(x.sum(0), 3.0) * x.sum(),
}
IMAGES: dict[str, Function] = {
    "bicubic": lambda x: F.interpolate(x, (5, 17), mode="bicubic"),
    "bicubic, corners": lambda x: F.interpolate(x, (5, 17), mode="bicubic", align_corners=True),
    "bilinear, same height": lambda x: F.interpolate(x, (7, 4), mode="bilinear"),
    "bilinear, antialiased": lambda x: F.interpolate(x, (3, 4), mode="bilinear", antialias=True),
    "bicubic, antialiased": lambda x: F.interpolate(x, (3, 14), mode="bicubic", antialias=True),
    "nearest, exact": lambda x: F.interpolate(x, (5, 18), mode="nearest-exact"),
    "scale": lambda x: F.interpolate(x, scale_factor=(1.3, 0.6), mode="bilinear"),
    "same": lambda x: F.interpolate(x, (7, 9), mode="bilinear"),
    "reflected": lambda x: F.pad(x, (1, 3, 2, 6), mode="reflect"),
    "replicated": lambda x: F.pad(x, (1, 0, -2, 6), mode="replicate"),
    "adaptive maximum": lambda x: F.adaptive_max_pool2d(x, (3, 4)),
    "adaptive average, tiled": lambda x: F.adaptive_avg_pool2d(x, (7, 3)),
    "neighbouring channels": lambda x: F.local_response_norm(x, 3),
    "unfolded": lambda x: F.unfold(x, (2, 3), (1, 2), (1, 0), (2, 1)),
    **{
        f"warped, {mode}, {padding}, {corners}": warped(mode, padding, corners)
        for mode in ("bilinear", "nearest", "bicubic")
        for padding in ("zeros", "border", "reflection")
        for corners in (False, True)
    },
    "pooled and back": unpooled,
    "fractional maximum": lambda x: F.fractional_max_pool2d(x, 2, (4, 5)),
    "folded": lambda x: F.fold(x.reshape(-1, 18, 7), (8, 4), (2, 3), (1, 2), (0, 1), (1, 2)),
}
VOLUMES: dict[str, Function] = {
    "trilinear": lambda x: F.interpolate(x, (5, 4, 7), mode="trilinear"),
    "nearest": lambda x: F.interpolate(x, (6, 4, 2)),
    "area": lambda x: F.interpolate(x, (2, 5, 3), mode="area"),
    "reflected": lambda x: F.pad(x, (1, 3, 2, 0, 1, 1), mode="reflect"),
    "replicated": lambda x: F.pad(x, (1, 3, 2, 0, 1, 1), mode="replicate"),
    "maximum": lambda x: F.max_pool3d(x, 2, 1, 1),
    "average": lambda x: F.avg_pool3d(x, 2, 2, 1, count_include_pad=False),
    "adaptive maximum": lambda x: F.adaptive_max_pool3d(x, (2, 3, 4)),
    "adaptive average": lambda x: F.adaptive_avg_pool3d(x, (2, 5, 1)),
    "power average": lambda x: F.lp_pool3d(x, 2, 2),
    "warped": warped_volume("bilinear", "reflection", False),
    "warped, nearest": warped_volume("nearest", "border", True),
    "fractional maximum": lambda x: F.fractional_max_pool3d(x, 2, (1, 3, 2)),
}
CASES = {
    f"{kind}: {name}": (function, shape)
    for kind, functions, shape in (
        ("signal", SIGNALS, SIGNAL),
        ("image", IMAGES, IMAGE),
        ("volume", VOLUMES, VOLUME),
    )
    for name, function in functions.items()
}


@pytest.mark.parametrize("name", CASES)
def test_a_function_and_its_gradient_equal_pytorch(name: str) -> None:
    assert_equals_pytorch(*CASES[name])
