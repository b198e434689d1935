"""What torch.optim leaves out and people ask for: regularisation that spares biases, exact zeros,
Lion.

Plain PyTorch, nothing of Hearth: each works in eager PyTorch as well, and compiles because every
optimizer does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

O = TypeVar("O", bound=torch.optim.Optimizer)  # noqa: E741


def parameter_groups(model: nn.Module, **options: Any) -> list[dict[str, Any]]:
    """Two groups for any optimizer: weights with these options, everything else without decay.

    Weights are parameters of two or more dimensions; biases and the scales of norms have fewer.
    `options` that regularise (`weight_decay`, `l1`) are 0 in the second group, others hold in both.

    >>> model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    >>> groups = parameter_groups(model, weight_decay=0.1)
    >>> [(len(group["params"]), group["weight_decay"]) for group in groups]
    [(1, 0.1), (3, 0.0)]
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    spared = {k: 0.0 if k in ("weight_decay", "l1") else v for k, v in options.items()}
    groups = [
        {**options, "params": [p for p in trained if is_weight(p)]},
        {**spared, "params": [p for p in trained if not is_weight(p)]},
    ]
    return [group for group in groups if group["params"]]


def is_weight(parameter: torch.Tensor) -> bool:
    """Whether regularisation concerns it: biases and the scales of norms have one dimension."""
    return parameter.dim() >= 2


@dataclass(frozen=True)
class ElasticNet:
    """The penalty l1·Σ|w| + l2·Σw² over weights, for `TrainStep(penalty=…)`.

    Zou and Hastie 2005, eq. 3, without its rescaling.  Biases and norms are spared.  Its gradient
    goes through the optimizer like that of the loss; AdamW's `weight_decay` does not (decoupled
    decay), and `proximal_l1` gives exact zeros, which this does not.

    >>> float(ElasticNet(l1=0.5)({"weight": torch.tensor([[3.0, -4.0]]), "bias": torch.ones(1)}))
    3.5
    """

    l1: float = 0.0
    l2: float = 0.0

    def __call__(self, parameters: Mapping[str, torch.Tensor]) -> torch.Tensor:
        total = torch.zeros(())
        for weight in filter(is_weight, parameters.values()):
            if self.l1:
                total = total + self.l1 * weight.abs().sum()
            if self.l2:
                total = total + self.l2 * weight.square().sum()
        return total


def proximal_l1(base: type[O]) -> Callable[..., O]:
    """The optimizer with a soft threshold after each step: weights become exactly 0.

    `proximal_l1(torch.optim.SGD)(groups, lr=0.1, l1=1e-3)` moves each element towards 0 by lr·l1
    and stops there: the proximal step of l1·Σ|w| (Parikh and Boyd 2014, Proximal Algorithms,
    §6.5.2; for SGD it is ISTA).  Under Adam the threshold is decoupled from the scaled step, as
    AdamW's decay is.  `l1` may differ by group: `parameter_groups(model, l1=…)` spares biases.
    """

    class Proximal(base):  # type: ignore[valid-type,misc]
        def __init__(self, params: Any, *arguments: Any, l1: float = 0.0, **options: Any) -> None:
            super().__init__(params, *arguments, **options)
            for group in self.param_groups:
                group.setdefault("l1", l1)

        @torch.no_grad()
        def step(self, closure: Any = None) -> Any:
            loss = inspect.unwrap(base.step)(self, closure)
            for group in self.param_groups:
                if group["l1"]:
                    for p in group["params"]:
                        if p.grad is not None:
                            p.copy_(soft_threshold(p, group["lr"] * group["l1"]))
            return loss

    Proximal.__name__ = f"Proximal{base.__name__}"
    return Proximal


def soft_threshold(x: torch.Tensor, threshold: torch.Tensor | float) -> torch.Tensor:
    """sign(x)·max(|x| - threshold, 0), the proximal operator of threshold·|x|."""
    return x.sign() * (x.abs() - threshold).clamp(min=0)


class Lion(torch.optim.Optimizer):
    """Lion: the sign of an interpolated momentum (Chen et al. 2023, arXiv:2302.06675, alg. 2).

    Rates are 3 to 10 times smaller, and decays larger, than AdamW's.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step on the gradients that the parameters hold."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            first, second = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                momentum = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                direction = (first * momentum + (1 - first) * p.grad).sign()
                p.sub_(group["lr"] * (direction + group["weight_decay"] * p))
                momentum.mul_(second).add_(p.grad, alpha=1 - second)
        return loss
