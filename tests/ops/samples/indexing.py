"""Lookups by index, and their gradients."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812

from tests.ops.samples.sample import Samples, floats, gradient, ints

SAMPLES = Samples()
add = SAMPLES.add

add("aten.index_select.default", "embedding", F.embedding, ints("B", low=0, high=7), floats(7, 3))
add("aten.index_select.default", "embedding of a sequence", F.embedding,
    ints("B", 5, low=0, high=7), floats(7, 3))  # fmt: skip
add("aten.index_select.default", "axis 1", lambda x, i: x.index_select(-1, i), floats("B", 7),
    ints(3, low=0, high=7))  # fmt: skip
add("hearth.index_add", "embedding, gradient", gradient(F.embedding), ints("B", 5, low=0, high=7),
    floats(7, 3))  # fmt: skip
add("aten.gather.default", "", lambda x, i: x.gather(1, i), floats("B", 7, 3),
    ints("B", 4, 3, low=0, high=7))  # fmt: skip
add("aten.gather.default", "gradient", lambda x, i: gradient(lambda y: y.gather(1, i))(x),
    floats("B", 7), ints("B", 4, low=0, high=7))  # fmt: skip
add("aten.gather.default", "scatter", lambda x, i: x.scatter(1, i, i * 0.5), floats("B", 7),
    ints("B", 11, low=0, high=7))  # fmt: skip
