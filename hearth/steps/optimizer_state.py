"""Optimizer state between `torch.optim` state dicts and named tensors (`exp_avg/fc1.weight`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from hearth.errors import InvalidInputError

_JSON = (bool, int, float, str, type(None))


def describe_optimizer(
    optimizer: torch.optim.Optimizer, names: Mapping[Any, str]
) -> dict[str, Any]:
    """The manifest's `optimizer` object: class, groups of learning rate, parameters and options.

    `names` maps each parameter (by identity) to its name.  The order of groups and parameters is
    that of `torch.optim` state dicts.
    """
    by_id = {id(parameter): name for parameter, name in names.items()}
    groups = []
    for group in optimizer.param_groups:
        options = {k: _plain(k, v) for k, v in group.items() if k not in ("params", "lr")}
        groups.append(
            {
                "learning_rate": float(group["lr"]),
                "parameters": [by_id[id(p)] for p in group["params"]],
                "options": options,
            }
        )
    return {"class": type(optimizer).__name__, "groups": groups}


def to_torch_state_dict(
    description: Mapping[str, Any], tensors: Mapping[str, Any], step: int
) -> dict[str, Any]:
    """A state dict for `torch.optim.CLASS.load_state_dict`, as after `step` steps.

    `tensors` maps KEY/PARAMETER to a tensor or array, scalar states (`step/fc1.weight`) included.
    Before the first step, and for a parameter without any tensor, there is no state.
    """
    states: dict[int, dict[str, torch.Tensor]] = {}
    groups, index = [], 0
    for group in description["groups"]:
        members = []
        for name in group["parameters"]:
            state = {
                full.removesuffix(f"/{name}"): _tensor(value)
                for full, value in tensors.items()
                if full.endswith(f"/{name}")
            }
            if step and state:
                states[index] = state
            members.append(index)
            index += 1
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in group["options"].items()}
        groups.append({**options, "lr": group["learning_rate"], "params": members})
    return {"state": states, "param_groups": groups}


def from_torch_optimizer(
    optimizer: torch.optim.Optimizer, names: Mapping[Any, str]
) -> tuple[dict[str, torch.Tensor], int]:
    """The state an optimizer already has, as KEY/PARAMETER tensors, and its step count.

    The step count is 1 where state exists that does not count (SGD's momentum).
    """
    by_id = {id(parameter): name for parameter, name in names.items()}
    tensors: dict[str, torch.Tensor] = {}
    counts = []
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if value is None:
                continue
            tensor = value.detach() if isinstance(value, torch.Tensor) else torch.tensor(value)
            tensors[f"{key}/{by_id[id(parameter)]}"] = tensor
            if key == "step":
                counts.append(int(tensor))
    return tensors, max(counts, default=1 if tensors else 0)


def _tensor(value: Any) -> torch.Tensor:
    return value.clone() if isinstance(value, torch.Tensor) else torch.from_numpy(np.array(value))


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, (tuple, list)):
        return [_plain(name, v) for v in value]
    if isinstance(value, _JSON) and not (isinstance(value, float) and not math.isfinite(value)):
        return value
    raise InvalidInputError(
        f"the optimizer option {name} is {value!r}", remedy="use finite numbers as options"
    )
