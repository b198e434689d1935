"""Arguments worth trying: special values, every magnitude, and a dense middle."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any

SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, np.pi, 3.0, -3.0, 88.0, 89.0, -88.0, -104.0,
     1e10, -1e10, 1e-45, -1e-45, 1e-40, 1.1754944e-38, 3.4028235e38, -3.4028235e38, 2.0**24 + 2,
     np.inf, -np.inf, np.nan],
    np.float32,
)  # fmt: skip
INTEGERS = np.array(
    [0, 1, -1, 2, -2, 3, -7, 31, 46341, -46341, 65536, 2**31 - 1, -(2**31), -(2**31) + 1], np.int32
)


def spread(count: int = 40_000) -> Array:
    """Both signs of every magnitude, and uniform values around zero."""
    generator = np.random.default_rng(0)
    sizes = np.exp(generator.uniform(np.log(1e-38), np.log(1e38), count // 2))
    near = [generator.uniform(-r, r, count // 4) for r in (1, 12, 100)]
    return np.concatenate([sizes, -sizes, *near]).astype(np.float32)


def pairs(values: Array) -> tuple[Array, Array]:
    """Every value against every value."""
    a, b = np.meshgrid(values, values)
    return a.ravel(), b.ravel()


def near_halves() -> Array:
    """Every positive float16, the middle to the next one, and the floats beside that middle."""
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    middles = (halves[:-1] + halves[1:]) / 2
    edge = np.array([65519.99, 65520.0, 65536.0], np.float32)
    return np.concatenate(
        [halves, middles, np.nextafter(middles, np.float32(0)), np.nextafter(middles, halves[1:]),
         edge, -middles]
    )  # fmt: skip
