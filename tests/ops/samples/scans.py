"""Running sums, products and extremes."""

from __future__ import annotations

import torch

from tests.ops.samples.sample import Samples, floats, ints

SAMPLES = Samples()
add = SAMPLES.add

for _kind, _scan in (("sum", torch.cumsum), ("prod", torch.cumprod), ("max", torch.cummax),
                     ("min", torch.cummin), ("logsumexp", torch.logcumsumexp)):  # fmt: skip
    add("hearth.scan", _kind, lambda x, f=_scan: f(x, 1), floats("B", 7, 3))
    add("hearth.scan", f"{_kind} of the batch", lambda x, f=_scan: f(x, 0), floats("B", 3))
    add("hearth.scan", f"{_kind} in blocks", lambda x, f=_scan: f(x, 1),
        floats("B", 67, low=-1.2, high=1.2))  # fmt: skip
    add("hearth.scan", f"{_kind} of NaN", lambda x, f=_scan: f(torch.log(x + 2), 1),
        floats("B", 67))  # fmt: skip
add("hearth.scan", "sum of int", lambda x: x.cumsum(1), ints("B", 67))
add("hearth.scan", "max of int", lambda x: x.cummax(1), ints("B", 67))
