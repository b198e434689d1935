"""Views and creation."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

from tests.ops.samples.sample import Samples, bools, floats, ints

SAMPLES = Samples()
add = SAMPLES.add

add("aten.reshape.default", "", lambda x: x.reshape(x.shape[0], 15), floats("B", 3, 5))
add("aten.reshape.default", "merges the batch", lambda x: x.reshape(-1, 5), floats("B", 3, 5))
add("aten.reshape.default", "new axes", lambda x: x[:, None, :, None], floats("B", 3))
add("aten.permute.default", "", lambda x: x.permute(2, 0, 1) * 1, floats("B", 3, 5))
add("aten.permute.default", "transpose", lambda x: x.transpose(-1, -2), floats("B", 3, 5))
add("aten.expand.default", "", lambda x: x.expand(-1, 3, 5), floats("B", 1, 5))
add("aten.expand.default", "a new axis", lambda x: x.expand(2, *x.shape), floats("B", 3))
add("aten.expand.default", "to the batch", lambda x, w: w.expand(x.shape[0], 5), floats("B", 5),
    floats(5))  # fmt: skip
add("aten.slice.Tensor", "", lambda x: x[:, 1:4], floats("B", 7))
add("aten.slice.Tensor", "with a step", lambda x: x[:, 1:6:2], floats("B", 7))
add("aten.slice.Tensor", "negative", lambda x: x[:, -3:-1], floats("B", 7))
add("aten.slice.Tensor", "select", lambda x: x[:, -2], floats("B", 7))
add("aten.slice.Tensor", "in the doubled batch", lambda x: torch.cat([x, -x])[x.shape[0] :],
    floats("B", 3))  # fmt: skip
add("aten.flip.default", "", lambda x: x.flip(1), floats("B", 7))
add("aten.flip.default", "the batch too", lambda x: x.flip(0, -1), floats("B", 3, 5))
add("aten.cat.default", "", lambda x, y: torch.cat([x, y, x * 2], 1), floats("B", 3),
    floats("B", 5))  # fmt: skip
add("aten.cat.default", "along the batch", lambda x, y: torch.cat([x, y]), floats("B", 3),
    floats("B", 3))  # fmt: skip
add("aten.cat.default", "stack", lambda x, y: torch.stack([x, y], -1), floats("B", 3),
    floats("B", 3))  # fmt: skip
add("aten.cat.default", "of int", lambda x, y: torch.cat([x, y], -1), ints("B", 3), ints("B", 2))
add("aten.cat.default", "of bool", lambda x, y: torch.cat([x, y], -1), bools("B", 3),
    bools("B", 2))  # fmt: skip
add("aten.constant_pad_nd.default", "", lambda x: F.pad(x, (1, 2)), floats("B", 5))
add("aten.constant_pad_nd.default", "with a value", lambda x: F.pad(x, (0, 1, 2, 0), value=-3.5),
    floats("B", 3, 5))  # fmt: skip
add("aten.constant_pad_nd.default", "negative", lambda x: F.pad(x, (-1, 2)), floats("B", 5))
add("aten.full.default", "", lambda x: torch.full((x.shape[0], 5), 2.5), floats("B", 5))
add("aten.full.default", "of int", lambda x: torch.ones(3, dtype=torch.int64) * x, ints("B", 3))
add("hearth.iota", "", lambda x: x * torch.arange(5), floats("B", 5))
add("hearth.iota", "start and step", lambda x: x * torch.arange(3, 18, 3), floats("B", 5))
add("hearth.iota", "floats", lambda x: x + torch.arange(0.5, 3, 0.5, dtype=x.dtype), floats("B", 5))
add("hearth.iota", "of the batch", lambda x: x * torch.arange(x.shape[0])[:, None], floats("B", 5))
