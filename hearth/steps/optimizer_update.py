"""One step of a `torch.optim` optimizer on one tensor, and what it does, found by trying.

No class is known by name.  The user's optimizer is never stepped; copies without its state are.
"""

from __future__ import annotations

import inspect
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch

from hearth.errors import UnsupportableError

State = dict[str, torch.Tensor]


def run_group(
    optimizer: torch.optim.Optimizer,
    index: int,
    parameter: torch.Tensor,
    gradient: torch.Tensor,
    state: State,
    learning_rate: torch.Tensor,
    capturable: bool = True,
) -> tuple[torch.Tensor, State]:
    """One step of group `index` on one tensor: the new parameter and the new state.

    An empty state is the optimizer's own first step.  `capturable` takes PyTorch's form for CUDA
    graphs, the only one of some optimizers that decides nothing by the value of a tensor.
    """
    copy: Any = object.__new__(type(optimizer))
    copy.__dict__.update(optimizer.__dict__)
    q = parameter.detach().clone().requires_grad_()
    q.grad = gradient
    options = {**optimizer.param_groups[index], "params": [q], "lr": learning_rate}
    overruled = {"capturable": capturable} | dict.fromkeys(
        ("foreach", "fused", "differentiable"), False
    )
    options.update({k: v for k, v in overruled.items() if k in options})
    copy.param_groups, copy.state = [options], defaultdict(dict)
    if state:
        copy.state[q] = {key: tensor.clone() for key, tensor in state.items()}
    with torch.no_grad():
        inspect.unwrap(type(copy).step)(copy)
    found = {k: s for k, s in copy.state[q].items() if isinstance(s, torch.Tensor)}
    return q.detach(), found


@contextmanager
def as_if_compiling() -> Iterator[None]:
    """`capturable=True` on a CPU, and no check for CUDA graphs."""
    with mock.patch.object(torch.compiler, "is_compiling", return_value=True):
        yield


def _tensor_factor(function: Any, option: str, scaled: int) -> Callable[..., Any]:
    """`x.add_(y, alpha=lr)` with a tensor lr, without reading its value: `x.add_(y * lr)`."""

    def rule(*args: Any, **options: Any) -> Any:
        factor = options.pop(option, 1)
        if not isinstance(factor, torch.Tensor):
            return NotImplemented
        operands = [a * factor if i == scaled else a for i, a in enumerate(args)]
        return function(*operands, **options)

    return rule


def _full_like(x: torch.Tensor, fill_value: Any, **_: Any) -> Any:
    return fill_value.expand(x.shape) if isinstance(fill_value, torch.Tensor) else NotImplemented


def _to(x: torch.Tensor, *_: Any, dtype: torch.dtype | None = None, **__: Any) -> Any:
    """Muon orthogonalizes in bfloat16 for the speed of tensor cores; here float32 stays float32."""
    return x if dtype == torch.bfloat16 else NotImplemented


def _by_number(x: Any, divisor: Any, **options: Any) -> Any:
    """All elements by one number: one division and many products."""
    numbers = isinstance(x, torch.Tensor) and isinstance(divisor, torch.Tensor)
    if options or not numbers or divisor.dim() > 0 or x.dim() == 0:
        return NotImplemented
    return x * divisor.reciprocal()


_FACTORS = {
    "add": ("alpha", 1),
    "sub": ("alpha", 1),
    "addcmul": ("value", 1),
    "addcdiv": ("value", 1),
}
TENSOR_SCALARS: dict[Any, Callable[..., Any]] = {
    torch.Tensor.item: lambda x: x,
    torch.Tensor.to: _to,
    torch.full_like: _full_like,
    torch.Tensor.div: _by_number,
    torch.Tensor.__truediv__: _by_number,
} | {
    function: _tensor_factor(function, *_FACTORS[name])
    for name in _FACTORS
    for function in (
        getattr(torch.Tensor, name),
        getattr(torch.Tensor, f"{name}_"),
        getattr(torch, name),
    )
}


def _probe(
    optimizer: torch.optim.Optimizer, index: int, shape: tuple[int, ...], steps: int, zeros: bool
) -> tuple[torch.Tensor, State]:
    """A few eager float64 steps on fixed numbers, from the first step or from a zero state."""
    lr = torch.tensor(0.01, dtype=torch.float64)
    p = _numbers(-1.0, 2.0, shape)
    state: State = {}
    if zeros:
        _, made = run_group(optimizer, index, p, torch.ones_like(p), {}, lr)
        state = {k: torch.zeros_like(v) for k, v in made.items()}
    for i in range(steps):
        p, state = run_group(optimizer, index, p, _numbers(0.5, -1.5 - i, shape), state, lr)
    return p, state


def _numbers(first: float, last: float, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.linspace(first, last, math.prod(shape), dtype=torch.float64).reshape(shape)


def starts_from_zeros(optimizer: torch.optim.Optimizer, index: int, shape: tuple[int, ...]) -> bool:
    """Whether a step from a zero state is the same as the optimizer's own first step."""
    with as_if_compiling():
        first, zeros = (_probe(optimizer, index, shape, 1, zeros) for zeros in (False, True))
    return _same(first, zeros)


def _same(a: tuple[torch.Tensor, State], b: tuple[torch.Tensor, State]) -> bool:
    pairs = [(a[0], b[0]), *((a[1][k], b[1].get(k, a[1][k] + 1)) for k in a[1])]
    return all(
        x.numel() == y.numel() and torch.allclose(x, y.reshape(x.shape), rtol=1e-13, atol=1e-15)
        for x, y in pairs
    )


def state_shapes(
    optimizer: torch.optim.Optimizer, index: int, shape: tuple[int, ...]
) -> dict[str, tuple[int, ...]]:
    """The state for a tensor of a shape, by key; `UnsupportableError` where two steps fail."""
    try:
        with as_if_compiling():
            _, state = _probe(optimizer, index, shape, 2, zeros=False)
    except Exception as error:
        why = (
            "two steps on a tensor with a dense gradient, without a closure, end in "
            f"{type(error).__name__}: {error}"
        )
        raise cannot_compile(type(optimizer).__name__, why) from error
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def rests_at_rate_zero(
    optimizer: torch.optim.Optimizer, index: int, shape: tuple[int, ...]
) -> bool:
    """Whether `capturable` keeps a tensor without gradient finite at a learning rate of 0.

    Adam's does not: it divides by the rate, and a warm-up begins with 0.
    """
    p, none = _numbers(-1.0, 2.0, shape), torch.tensor(0.0, dtype=torch.float64)
    with as_if_compiling():
        p, _ = run_group(optimizer, index, p, torch.zeros_like(p), {}, none)
    return bool(p.isfinite().all())


def is_elementwise(optimizer: torch.optim.Optimizer, index: int) -> bool:
    """Whether a flat vector can stand for tensors of any shape: found by trying."""
    try:
        with as_if_compiling():
            flat = _probe(optimizer, index, (4,), 2, zeros=False)
            square = _probe(optimizer, index, (2, 2), 2, zeros=False)
    except Exception:  # an optimizer for matrices refuses vectors in words of its own
        return False
    likewise = all(state.shape in ((), (4,)) for state in flat[1].values())
    return likewise and _same(flat, square) and _ignores_others(optimizer, index)


def _ignores_others(optimizer: torch.optim.Optimizer, index: int) -> bool:
    """Whether the first element's update ignores the others: change them and look."""
    lr = torch.tensor(0.01, dtype=torch.float64)
    results = []
    with as_if_compiling():
        for rest in (0.3, -7.0):
            p = torch.tensor([1.0, rest, rest], dtype=torch.float64)
            p, state = run_group(optimizer, index, p, p * 2, {}, lr)
            p, state = run_group(optimizer, index, p, p * 3, state, lr)
            results.append(p[0])
    return bool(torch.equal(*results))


def cannot_compile(optimizer: str, why: str) -> UnsupportableError:
    """For an optimizer whose update is no fixed sequence of operations on tensors."""
    return UnsupportableError(
        f"the optimizer {optimizer} cannot be compiled",
        why=why,
        remedy="use SGD, Adam, AdamW, Muon or another first-order optimizer of torch.optim",
    )
