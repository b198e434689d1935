"""Randomness as a pure function of (seed, step, stream, element), in traces and in eager PyTorch.

Every random operation of a model becomes `hearth.rand`, Philox 4x32-10 with the counters of
spec/manifest.md; each draw has its own stream number, given out in the order of execution.
`replay_random` makes eager PyTorch draw exactly the numbers that the compiled program draws.

The mask convention: a draw `u` is kept (Dropout) or is 1 (Bernoulli with probability q) where
`u >= p`, p = 1 - q being the probability of a zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from hearth.capture.distributions import decompositions

_WORD = 0xFFFFFFFF
_LIBRARY = torch.library.Library("hearth", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define(  # type: ignore[no-untyped-call]
    "rand(Tensor seed, Tensor step, SymInt[] size, int stream) -> Tensor"
)
aten = torch.ops.aten


def _multiply(word: torch.Tensor, factor: int) -> tuple[torch.Tensor, torch.Tensor]:
    """High and low 32 bits of a product of two 32-bit words held in int64."""
    high, low = word >> 16, word & 0xFFFF
    upper, lower = high * factor, low * factor
    total = upper + (lower >> 16)
    return (total >> 16) & _WORD, ((total & 0xFFFF) << 16) | (lower & 0xFFFF)


def philox(
    counter: Sequence[torch.Tensor], key: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    """Philox 4x32-10 (Salmon et al., SC 2011) on words held in int64 tensors."""
    a, b, c, d = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = _multiply(a, 0xD2511F53)
        high1, low1 = _multiply(c, 0xCD9E8D57)
        a, b, c, d = high1 ^ b ^ k0, low1, high0 ^ d ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & _WORD, (k1 + 0xBB67AE85) & _WORD
    return a, b, c, d


def uniform(
    seed: torch.Tensor, step: torch.Tensor, size: Sequence[int], stream: int
) -> torch.Tensor:
    """Uniform float32 in [0, 1): what `hearth.rand` means.  `seed` is two 32-bit words."""
    count = math.prod(int(s) for s in size)
    index = torch.arange((count + 3) // 4, dtype=torch.int64)
    key = seed.reshape(2).to(torch.int64) & _WORD
    step = step.reshape(()).to(torch.int64) & _WORD
    zero = torch.zeros_like(index)
    words = philox((index, zero + stream, zero + step, zero), (key[0] + zero, key[1] + zero))
    flat = torch.stack(words, 1).reshape(-1)[:count]
    return ((flat >> 8).to(torch.float32) * 2.0**-24).reshape([int(s) for s in size])


def _uniform_meta(
    seed: torch.Tensor,
    step: torch.Tensor,
    size: Sequence[int],
    stream: int,
) -> torch.Tensor:
    return torch.empty(size, dtype=torch.float32, device="meta")


_LIBRARY.impl("rand", uniform, "CPU")  # type: ignore[no-untyped-call]
_LIBRARY.impl("rand", _uniform_meta, "Meta")  # type: ignore[no-untyped-call]


@dataclass
class Streams:
    """The source of draws: the seed and step tensors, and the number of the next stream."""

    seed: torch.Tensor
    step: torch.Tensor
    next_stream: int = 0
    drawn: int = 0

    def draw(self, size: Sequence[int]) -> torch.Tensor:
        stream, self.next_stream = self.next_stream, self.next_stream + 1
        self.drawn = max(self.drawn, self.next_stream)
        result: torch.Tensor = torch.ops.hearth.rand(self.seed, self.step, list(size), stream)
        return result

    def zero_probability(self, size: Sequence[int], p: float) -> torch.Tensor:
        """True with probability 1 - p.

        The threshold is rounded up to a multiple of 2**-24, which changes no outcome and makes the
        comparison exact in float32.
        """
        return self.draw(size) >= math.ceil(round(p * 2**24, 6)) / 2**24

    def real(self, size: Sequence[int], dtype: torch.dtype | None = None) -> torch.Tensor:
        """A draw as a number of the type in which the caller goes on computing."""
        return self.draw(size).to(dtype or torch.get_default_dtype())

    def normal(self, size: Sequence[int], dtype: torch.dtype | None = None) -> torch.Tensor:
        """Standard normal by Box and Muller, from two streams."""
        radius = torch.sqrt(-2.0 * torch.log(1.0 - self.real(size, dtype)))
        return radius * torch.cos(2.0 * math.pi * self.real(size, dtype))

    def exponential(self, size: Sequence[int], dtype: torch.dtype | None = None) -> torch.Tensor:
        """Mean 1, by inversion."""
        return -torch.log1p(-self.real(size, dtype))

    def integers(self, low: int, high: int, size: Sequence[int]) -> torch.Tensor:
        """Uniform in low .. high - 1, of the 2**24 values of a draw."""
        return torch.floor(self.draw(size) * (high - low)).clamp(max=high - low - 1) + low

    def dropout(
        self, x: torch.Tensor, p: float, train: bool | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if train is False or p == 0:
            return x.clone(), torch.ones_like(x, dtype=torch.bool)
        if p == 1:
            return torch.zeros_like(x), torch.zeros_like(x, dtype=torch.bool)
        keep = self.zero_probability(x.shape, p)
        return torch.where(keep, x * (1.0 / (1.0 - p)), 0.0), keep


_IN_PLACE = {
    aten.bernoulli_.float: aten.bernoulli.p,
    aten.bernoulli_.Tensor: aten.bernoulli.Tensor,
    aten.uniform_.default: aten.uniform.default,
    aten.normal_.default: aten.normal_functional.default,
    aten.log_normal_.default: aten.log_normal.default,
    aten.cauchy_.default: aten.cauchy.default,
    aten.exponential_.default: aten.exponential.default,
    aten.geometric_.default: aten.geometric.default,
    getattr(aten.random_, "from"): getattr(aten.random, "from"),
    aten.random_.to: aten.random.to,
}


class _Replay(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Answers eager PyTorch's random operations from `Streams`."""

    def __init__(self, streams: Streams) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.table = decompositions(streams)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _IN_PLACE:
            return args[0].copy_(self.table[_IN_PLACE[func]](*args, **kwargs))
        if func is aten.rrelu_with_noise.default:
            y, noise = self.table[aten.rrelu_with_noise_functional.default](*args, **kwargs)
            args[1].copy_(noise)
            return y
        return self.table.get(func, func)(*args, **kwargs)


@contextmanager
def rewindable(streams: Streams) -> Iterator[None]:
    """Let `torch.utils.checkpoint` save and restore the stream number as if it were RNG state."""
    kept = torch.get_rng_state()

    def get() -> torch.Tensor:
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            state = kept.clone()
            state[:8] = torch.tensor(list(streams.next_stream.to_bytes(8, "little")))
        return state

    def put(state: torch.Tensor) -> None:
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            streams.next_stream = int.from_bytes(bytes(state[:8].tolist()), "little")

    with (
        mock.patch.multiple(torch, get_rng_state=get, set_rng_state=put),
        mock.patch.multiple(torch.random, get_rng_state=get, set_rng_state=put),
    ):
        yield


def seed_words(seed: int) -> torch.Tensor:
    """A 64-bit seed as the two words of the manifest, low word first."""
    return torch.tensor([seed & _WORD, (seed >> 32) & _WORD], dtype=torch.int64)


@contextmanager
def replay_random(seed: int | torch.Tensor, step: int) -> Iterator[None]:
    """Run eager PyTorch with the very random numbers of the compiled program.

    `seed` is a 64-bit integer or a tensor of its two 32-bit words; streams are numbered from the
    moment of entry, so enter it once per training step.
    """
    words = seed_words(seed) if isinstance(seed, int) else seed
    streams = Streams(words, torch.tensor(step, dtype=torch.int64))
    with rewindable(streams), _Replay(streams):
        yield
