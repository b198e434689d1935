"""Sorting and the largest elements."""

from __future__ import annotations

import torch

from tests.ops.samples.sample import Samples, floats, gradient, ints, ties

SAMPLES = Samples()
add = SAMPLES.add

for _label, _extent in (("", 11), ("long", 1031)):
    add("hearth.order", f"{_label} ties", lambda x: x.sort(dim=1, stable=True), ties("B", _extent))
    add("hearth.order", f"{_label} down, NaN", lambda x: torch.log(x).sort(dim=1, descending=True,
        stable=True), floats("B", _extent))  # fmt: skip
    add("hearth.order", f"{_label} of int", lambda x: x.sort(dim=1, stable=True),
        ints("B", _extent))  # fmt: skip
    add("hearth.order", f"{_label} topk, gradient", gradient(lambda x: x.topk(3)[0]),
        floats("B", _extent))  # fmt: skip
add("hearth.order", "of the batch", lambda x: x.sort(dim=0, stable=True), ties("B", 3))
