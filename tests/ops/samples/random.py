"""Randomness: the same numbers as in PyTorch, by seed and step."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

from tests.ops.samples.sample import Samples, floats

SAMPLES = Samples()
add = SAMPLES.add

add("hearth.rand", "dropout", lambda x: F.dropout(x, 0.4), floats("B", 5))
add("hearth.rand", "two streams", lambda x: (F.dropout(x, 0.4), torch.rand_like(x)),
    floats("B", 5))  # fmt: skip
