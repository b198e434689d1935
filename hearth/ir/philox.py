"""Philox 4x32-10 on NumPy arrays: the meaning of the scalar op `random`.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any
_MASK = np.uint64(0xFFFFFFFF)


def philox_4x32(counter: tuple[Array, ...], key: tuple[Array, Array]) -> list[Array]:
    """Ten rounds; words are uint64 arrays that hold 32-bit values."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (
            (p1 >> np.uint64(32)) ^ c1 ^ k0,
            p1 & _MASK,
            (p0 >> np.uint64(32)) ^ c3 ^ k1,
            p0 & _MASK,
        )
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & _MASK, (k1 + np.uint64(0xBB67AE85)) & _MASK
    return [c0, c1, c2, c3]


def random_words(key0: Array, key1: Array, step: Array, stream: Array, index: Array) -> Array:
    """The word of element `index`: lane `index & 3` of counter (index >> 2, stream, step, 0).

    >>> random_words(*(np.uint32(v) for v in (0, 0, 0, 0)), np.arange(2, dtype=np.uint32)).tolist()
    [1713891541, 3781805453]
    """
    k0, k1, s, t, i = (np.asarray(v).astype(np.uint64) for v in (key0, key1, step, stream, index))
    k0, k1, s, t, i = np.broadcast_arrays(k0, k1, s, t, i)
    words = philox_4x32((i >> np.uint64(2), t, s, np.zeros_like(i)), (k0, k1))
    return np.choose((i & np.uint64(3)).astype(np.intp), words).astype(np.uint32)
