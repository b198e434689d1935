"""Every random operation of PyTorch as a function of uniform draws.

A rule has the signature of the ATen overload it replaces, with the streams of `random.py` for its
generator.  A float is computed in the type of the result, so that float64 stays exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from hearth.capture.random import Streams

aten = torch.ops.aten
Table = dict[Any, Callable[..., Any]]


def decompositions(streams: Streams) -> Table:
    """Every random operation in terms of `hearth.rand`, for a trace below autograd."""
    return {**_creations(streams), **_masks(streams), **_fills(streams), **_choices(streams)}


def _creations(streams: Streams) -> Table:
    """Tensors of random numbers made from a size, a tensor like them, or parameters for each."""

    def like(draw: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        return lambda x, *_, dtype=None, **__: draw(x.shape, dtype or x.dtype)

    def sized(draw: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        return lambda size, *_, dtype=None, **__: draw(size, dtype)

    def normal_of(mean: Any, std: Any = 1.0, size: Any = None, **given: Any) -> torch.Tensor:
        tensors = [t for t in (mean, std) if isinstance(t, torch.Tensor)]
        shape = torch.broadcast_shapes(*(t.shape for t in tensors)) if tensors else size  # type: ignore[no-untyped-call]
        dtype = tensors[0].dtype if tensors else given.get("dtype")
        drawn: torch.Tensor = streams.normal(shape, dtype) * std + mean
        return drawn

    def integers(*bounds: Any, dtype: torch.dtype | None = None, **_: Any) -> torch.Tensor:
        *limits, size = bounds
        low, high = (0, *limits)[-2:]
        return streams.integers(low, high, size).to(dtype or torch.int64)

    def integers_like(x: torch.Tensor, *limits: int, **given: Any) -> torch.Tensor:
        low, high = (0, *limits)[-2:]
        return streams.integers(low, high, x.shape).to(given.get("dtype") or x.dtype)

    return {
        aten.rand.default: sized(streams.real),
        aten.rand_like.default: like(streams.real),
        aten.randn.default: sized(streams.normal),
        aten.randn_like.default: like(streams.normal),
        aten.normal.Tensor_Tensor: normal_of,
        aten.normal.Tensor_float: normal_of,
        aten.normal.float_Tensor: normal_of,
        aten.normal.float_float: normal_of,
        aten.randint.default: integers,
        aten.randint.low: integers,
        aten.randint_like.default: integers_like,
        aten.randint_like.low_dtype: integers_like,
    }


def _filled(draw: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """From (size, dtype, parameters) to (tensor like the result, parameters)."""

    def fill(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        kwargs.pop("generator", None)
        dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
        return draw(x.shape, dtype, *args, **kwargs).to(x.dtype)

    return fill


def _fills(streams: Streams) -> Table:
    """What replaces the elements of a tensor by random numbers of a distribution."""

    def between(size: Any, dtype: Any, low: float = 0, high: float = 1, **named: float) -> Any:
        low, high = named.get("from", low), named.get("to", high)
        return streams.real(size, dtype) * (high - low) + low

    def normal(size: Any, dtype: Any, mean: float = 0, std: float = 1) -> torch.Tensor:
        return streams.normal(size, dtype) * std + mean

    def log_normal(size: Any, dtype: Any, mean: float = 1, std: float = 2) -> torch.Tensor:
        return torch.exp(normal(size, dtype, mean, std))

    def cauchy(size: Any, dtype: Any, median: float = 0, sigma: float = 1) -> torch.Tensor:
        return median + sigma * torch.tan(math.pi * (streams.real(size, dtype) - 0.5))

    def exponential(size: Any, dtype: Any, lambd: float = 1) -> torch.Tensor:
        return streams.exponential(size, dtype) / lambd

    def geometric(size: Any, dtype: Any, p: float) -> torch.Tensor:
        """The number of trials up to the first success, by inversion."""
        return torch.floor(streams.exponential(size, dtype) / -math.log1p(-p)) + 1

    def integers(size: Any, dtype: Any, *limits: int, **named: int) -> torch.Tensor:
        low, high = (0, *limits, *(named[k] for k in ("from", "to") if k in named))[-2:]
        return streams.integers(low, high, size)

    return {
        aten.uniform.default: _filled(between),
        aten.normal_functional.default: _filled(normal),
        aten.log_normal.default: _filled(log_normal),
        aten.cauchy.default: _filled(cauchy),
        aten.exponential.default: _filled(exponential),
        aten.geometric.default: _filled(geometric),
        getattr(aten.random, "from"): _filled(integers),
        aten.random.to: _filled(integers),
    }


def _masks(streams: Streams) -> Table:
    """Dropout, Bernoulli's coins, and the random slopes of RReLU."""

    def bernoulli(x: torch.Tensor, q: float = 0.5, **_: Any) -> torch.Tensor:
        return streams.zero_probability(x.shape, 1 - q).to(x.dtype)

    def bernoulli_each(x: torch.Tensor, q: torch.Tensor | None = None, **_: Any) -> torch.Tensor:
        return (streams.draw(x.shape) >= 1 - (x if q is None else q)).to(x.dtype)

    def rrelu(
        x: torch.Tensor,
        noise: torch.Tensor,
        low: float = 1 / 8,
        high: float = 1 / 3,
        training: bool = False,
        **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not training:
            return torch.where(x > 0, x, x * ((low + high) / 2)), noise
        slope = streams.real(x.shape, x.dtype) * (high - low) + low
        slope = torch.where(x > 0, 1.0, slope)
        return x * slope, slope

    return {
        aten.native_dropout.default: streams.dropout,
        aten.bernoulli.p: bernoulli,
        aten.bernoulli.default: bernoulli_each,
        aten.bernoulli.Tensor: bernoulli_each,
        aten.rrelu_with_noise_functional.default: rrelu,
    }


def _choices(streams: Streams) -> Table:
    """Random choices among positions."""

    def multinomial(p: torch.Tensor, count: int, again: bool = False, **_: Any) -> torch.Tensor:
        """With replacement by inversion; without, the first arrivals of a race (as PyTorch)."""
        if again:
            total = p.cumsum(-1)
            drawn = streams.real((*p.shape[:-1], count), p.dtype) * total[..., -1:]
            return (total.unsqueeze(-2) <= drawn.unsqueeze(-1)).sum(-1)
        arrivals = streams.exponential(p.shape, p.dtype).clamp(min=2.0**-30)
        return torch.topk(p / arrivals, count)[1]

    def permutation(n: int, **given: Any) -> torch.Tensor:
        order = torch.sort(streams.draw([n]), stable=True)[1]
        return order.to(given.get("dtype") or torch.int64)

    return {aten.multinomial.default: multinomial, aten.randperm.default: permutation}
