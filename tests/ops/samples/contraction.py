"""Matrix products."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

from tests.ops.samples.sample import Samples, floats, gradient, ints

SAMPLES = Samples()
add = SAMPLES.add

add("aten.mm.default", "", torch.mm, floats("B", 5), floats(5, 7))
add("aten.mm.default", "of int", torch.mm, ints("B", 5), ints(5, 7))
add("aten.mm.default", "transposed", lambda x, w: x @ w.t(), floats("B", 5), floats(7, 5))
add("aten.mm.default", "of the batch", lambda x, y: x.t() @ y, floats("B", 5), floats("B", 7))
add("aten.mm.default", "linear", F.linear, floats("B", 5), floats(7, 5), floats(7))
add("aten.mm.default", "linear, gradient", gradient(F.linear), floats("B", 5), floats(7, 5),
    floats(7))  # fmt: skip
add("aten.mm.default", "a vector", lambda x, v: x @ v, floats("B", 5), floats(5))
add("aten.bmm.default", "", torch.bmm, floats("B", 3, 5), floats("B", 5, 7))
add("aten.bmm.default", "gradient", gradient(torch.bmm), floats("B", 3, 5), floats("B", 5, 7))
add("aten.bmm.default", "bilinear", F.bilinear, floats("B", 3), floats("B", 5), floats(7, 3, 5),
    floats(7))  # fmt: skip
add("aten.bmm.default", "bilinear, gradient", gradient(F.bilinear), floats("B", 3), floats("B", 5),
    floats(7, 3, 5), floats(7))  # fmt: skip
add("aten.bmm.default", "transposed", lambda a, b: a @ b.mT, floats("B", 3, 5), floats("B", 7, 5))
