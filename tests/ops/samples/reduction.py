"""Sums, products, extremes and where they are."""

from __future__ import annotations

import functools

import torch

from tests.ops.samples.sample import Samples, bools, floats, ints, ties

SAMPLES = Samples()
add = SAMPLES.add

for _axes in ((0,), (1,), (-1,), (0, 2), (0, 1, 2)):
    for _keep in (False, True):
        _label = f"over {_axes}{' kept' if _keep else ''}"
        _kwargs = {"dim": _axes, "keepdim": _keep}
        for _name, _op in (("sum", "sum.dim_IntList"), ("amax", "amax.default"),
                           ("amin", "amin.default")):  # fmt: skip
            _function = functools.partial(getattr(torch, _name), **_kwargs)
            add(f"aten.{_op}", _label, _function, floats("B", 3, 5))
for _axis in (0, 1, 2):
    add("aten.prod.dim_int", f"over {_axis}", lambda x, a=_axis: x.prod(a), floats("B", 3, 5))
add("aten.prod.dim_int", "over all", torch.prod, floats(3, 5))
add("aten.prod.dim_int", "of int", lambda x: x.prod(1), ints("B", 5))
add("aten.prod.dim_int", "of bool", lambda x: x.prod(1), bools("B", 3))
add("aten.sum.dim_IntList", "of int", torch.sum, ints("B", 5))
add("aten.sum.dim_IntList", "of bool", lambda x: x.sum(1), bools("B", 5))
add("aten.sum.dim_IntList", "a mean", lambda x: x.mean(), floats("B", 5))
add("aten.sum.dim_IntList", "a variance", lambda x: x.var(0), floats("B", 5))
add("aten.amax.default", "of NaN", lambda x: torch.amax(torch.log(x), 1), floats("B", 5))
add("aten.amin.default", "of NaN", lambda x: torch.amin(torch.log(x), 1), floats("B", 5))
add("aten.amax.default", "of int", lambda x: torch.amax(x, 1), ints("B", 5))
add("aten.amax.default", "any", lambda x: x.any(1), bools("B", 3))
add("aten.amin.default", "all", lambda x: x.all(1), bools("B", 3))
for _name in ("argmax", "argmin"):
    _function = getattr(torch, _name)
    add(f"aten.{_name}.default", "with ties", lambda x, f=_function: f(x, 1), ties("B", 11, 3))
    add(f"aten.{_name}.default", "kept", lambda x, f=_function: f(x, -1, True), ties("B", 11))
    add(f"aten.{_name}.default", "over the batch", lambda x, f=_function: f(x, 0), ties("B", 3))
    add(f"aten.{_name}.default", "over all", _function, ties("B", 3))
    add(f"aten.{_name}.default", "of NaN", lambda x, f=_function: f(torch.log(x), 1),
        floats("B", 5))  # fmt: skip
    add(f"aten.{_name}.default", "of int", lambda x, f=_function: f(x, 1), ints("B", 5))
