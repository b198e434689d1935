"""What waits from the forward to the backward pass: one derivative, not what it is made of."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import hearth
from hearth.ir.dim import B
from hearth.ir.expr import Apply, walk
from hearth.ir.kernel import Kernel
from hearth.ir.walking import kernel_expressions

HIDDEN = 16


def squares(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return ((output - target) ** 2).mean()


def kernels(activation: nn.Module) -> tuple[Kernel, ...]:
    """Those of a step of two layers."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, HIDDEN), activation, nn.Linear(HIDDEN, 4))
    step = hearth.TrainStep(model, squares, torch.optim.SGD(model.parameters(), lr=0.1))
    x, y = torch.randn(4, 8), torch.randn(4, 4)
    own: tuple[Kernel, ...] = hearth.compile(step, x, y, backends=("wasm",)).kernels
    return own


def hidden_values_stored(kernel: Kernel) -> int:
    return sum(p.is_written and p.size == B * HIDDEN for p in kernel.params)


def computes(kernel: Kernel, op: str) -> bool:
    return any(isinstance(e, Apply) and e.op == op for e in walk(kernel_expressions(kernel)))


@pytest.mark.parametrize(("op", "kind"), [("tanh", "tanh"), ("erf", "none")])
def test_a_product_stores_the_derivative_of_its_gelu_beside_the_value(op: str, kind: str) -> None:
    own = [k for k in kernels(nn.GELU(approximate=kind)) if computes(k, op)]
    assert max(map(hidden_values_stored, own)) == 2


def test_no_gradient_evaluates_the_function_again() -> None:
    training = [k for k in kernels(nn.GELU()) if hidden_values_stored(k) == 2]
    assert [computes(k, "erf") for k in training] == [True]
    assert sum(computes(k, "erf") for k in kernels(nn.GELU())) <= 2  # with that of predictions


def test_a_product_with_relu_stores_one_value() -> None:
    assert max(map(hidden_values_stored, kernels(nn.ReLU()))) == 1
