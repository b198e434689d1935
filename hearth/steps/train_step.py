"""What a person hands us to compile: a model, its loss and its optimizer, checked.

Nothing here is traced or changed.  `programs.py` turns a `TrainStep` into captured programs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from hearth.errors import CaptureError, InvalidInputError, UnsupportedOpError
from hearth.steps.augment import Augmentation
from hearth.steps.mixed import LossScaling, check_precision, loss_scaling
from hearth.steps.schedule import Schedule, check_schedule

Loss = Callable[..., torch.Tensor]
Metric = Callable[..., torch.Tensor]
Penalty = Callable[[Mapping[str, torch.Tensor]], torch.Tensor]
_TABLES = ("_parameters", "_buffers", "_modules")


@dataclass(frozen=True, eq=False)
class TrainStep:
    """One training step: forward, loss, backward, optional clipping, update.

    `loss` is called as `loss(outputs, *targets)` and returns a scalar.  Parameters that the
    optimizer does not hold, or that do not require gradients, stay as they are.  `metrics` maps a
    name to a callable like the loss, evaluated in the evaluate program (`hearth.metrics` has some):
    one without dimensions is averaged over batches, one with dimensions summed.  Modules that are
    in eval mode inside a model in training mode stay so (frozen BatchNorm).  Gradients are clipped
    by value first (`clip_grad_value_`), then by their norm (`clip_grad_norm_`).  `scheduler` gives
    the learning rates of `trainer.fit`; a bare one steps after every epoch, a `Schedule` says how
    often.  `augmentation` changes every training batch before the model sees it: a function of the
    first input, or one of all inputs and targets that returns as much (docs/augmentation.md).
    `penalty` is called with the trained parameters by name and returns a scalar, which is added to
    the loss in training (`hearth.optim.ElasticNet`); it is the metric "penalty" of a step.

    `precision` "float16" or "bfloat16" computes forward and loss under `torch.autocast` of that
    type, with CUDA's lists; parameters and updates stay float32.  For float16 the loss is scaled as
    by a new `torch.amp.GradScaler`, or by the `scaler` that is given.

    `training_metrics` computes the metrics without dimensions of every training batch, too, from
    the outputs that its loss is made of (dropout, batch statistics and augmentation included; none
    may then have the name of another number of a step: "norm", "penalty" with a penalty), and
    `gradient_norm` the norm of all gradients together, as clipping by norm does anyway.  Without
    them a step does not compute what nobody asked for.

    `accumulate` adds the programs with which a step takes several batches, one after another, and
    updates once, by the mean of their gradients: `trainer.fit(loader, { accumulate: 4 })`.  It
    costs one more gradient in memory.

    Raises `InvalidInputError`, `CaptureError` or `UnsupportedOpError` for what cannot be compiled.
    """

    model: nn.Module
    loss: Loss
    optimizer: torch.optim.Optimizer
    clip_grad_norm: float | None = None
    precision: str = "float32"
    metrics: Mapping[str, Metric] | None = None
    scheduler: Schedule | LRScheduler | None = None
    clip_grad_value: float | None = None
    augmentation: Augmentation | None = None
    scaler: torch.amp.GradScaler | None = None
    accumulate: bool = False
    penalty: Penalty | None = None
    training_metrics: bool = False
    gradient_norm: bool = False
    parameters: Mapping[str, nn.Parameter] = field(init=False, repr=False)
    buffers: Mapping[str, torch.Tensor] = field(init=False, repr=False)
    groups: tuple[tuple[str, ...], ...] = field(init=False)
    schedule: Schedule | None = field(init=False)
    scaling: LossScaling | None = field(init=False)

    def __post_init__(self) -> None:
        _check_kinds(self)
        _check_metric_names(self)
        parameters = dict(self.model.named_parameters())
        object.__setattr__(self, "parameters", parameters)
        object.__setattr__(self, "schedule", _schedule(self))
        object.__setattr__(self, "scaling", loss_scaling(self.precision, self.scaler))
        object.__setattr__(self, "buffers", dict(self.model.named_buffers()))
        object.__setattr__(self, "groups", _group_names(self.optimizer, parameters))
        check_stored({**self.parameters, **self.buffers})
        if not self.trainable:
            raise CaptureError(
                "there is nothing to train",
                why="no parameter in the optimizer requires a gradient",
                remedy="call requires_grad_(True) on the parameters to train",
            )

    @property
    def trainable(self) -> tuple[str, ...]:
        """Names of the parameters that the optimizer may change, in the model's order."""
        held = {name for group in self.groups for name in group}
        return tuple(n for n, p in self.parameters.items() if n in held and p.requires_grad)


@dataclass(frozen=True)
class StateEntry:
    """One entry of the model's state_dict, or a buffer outside it.

    `name` is the state_dict key; `tied_to` the first name of a tensor that has several.
    """

    name: str
    role: str
    tensor: torch.Tensor
    trainable: bool
    persistent: bool
    tied_to: str | None


def state_entries(model: nn.Module, trainable: Collection[str] = ()) -> tuple[StateEntry, ...]:
    """Every parameter and buffer in state_dict order, then the non-persistent buffers."""
    saved = model.state_dict(keep_vars=True)
    named = dict(model.named_parameters(remove_duplicate=False))
    buffers = dict(model.named_buffers(remove_duplicate=False))
    names = [
        *(n for n in saved if n in named or n in buffers),
        *(b for b in buffers if b not in saved),
    ]
    first: dict[int, str] = {}
    entries = []
    for name in names:
        tensor = named[name] if name in named else buffers[name]
        owner = first.setdefault(id(tensor), name)
        role = "parameter" if name in named else "buffer"
        entries.append(
            StateEntry(
                name,
                role,
                tensor,
                trainable=owner in trainable,
                persistent=name in saved,
                tied_to=None if owner == name else owner,
            )
        )
    return tuple(entries)


@contextmanager
def untouched(*objects: object) -> Iterator[None]:
    """Restore modules (attributes, parameters, buffers, modes) and the RNG state on exit."""
    modules = [m for o in objects if isinstance(o, nn.Module) for m in o.modules()]
    saved: list[tuple[nn.Module, dict[str, Any], list[dict[str, Any]]]] = [
        (m, dict(m.__dict__), [dict(m.__dict__[name]) for name in _TABLES]) for m in modules
    ]
    random = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(random)
        for module, attributes, tables in saved:
            module.__dict__.clear()
            module.__dict__.update(attributes)
            for name, table in zip(_TABLES, tables, strict=True):
                module.__dict__[name].clear()
                module.__dict__[name].update(table)


def _check_kinds(step: TrainStep) -> None:
    for name, kind in (("model", nn.Module), ("optimizer", torch.optim.Optimizer)):
        given = getattr(step, name)
        if not isinstance(given, kind):
            raise InvalidInputError(
                f"{name} is a {type(given).__name__}, not a {kind.__module__}.{kind.__name__}",
                remedy=f"pass the {name} object itself",
            )
    for name, function in {"loss": step.loss, **(step.metrics or {})}.items():
        if not callable(function):
            raise InvalidInputError(
                f"{name} is a {type(function).__name__} and cannot be called",
                remedy="pass a callable (outputs, *targets) that returns a scalar",
            )
    if not isinstance(step.accumulate, bool):
        raise InvalidInputError(
            f"accumulate is {step.accumulate!r}",
            why="a compiled step takes any number of batches",
            remedy="pass True here, and the number to trainer.fit(loader, { accumulate: 4 })",
        )
    for name in ("training_metrics", "gradient_norm"):
        if not isinstance(getattr(step, name), bool):
            raise InvalidInputError(
                f"{name} is {getattr(step, name)!r}", remedy="pass True or False"
            )
    check_precision(step.precision)
    if step.augmentation is not None and not callable(step.augmentation):
        raise InvalidInputError(
            f"augmentation is a {type(step.augmentation).__name__} and cannot be called",
            remedy="pass one function; hearth.functions.augmentation.Compose makes one of several",
        )
    if step.penalty is not None and not callable(step.penalty):
        raise InvalidInputError(
            f"penalty is a {type(step.penalty).__name__} and cannot be called",
            remedy="pass a callable of the parameters by name that returns a scalar, such as "
            "hearth.optim.ElasticNet(l1=1e-4)",
        )
    for name in ("clip_grad_value", "clip_grad_norm"):
        limit = getattr(step, name)
        if limit is not None and not (isinstance(limit, (int, float)) and 0 < limit < math.inf):
            raise InvalidInputError(
                f"{name} is {limit!r}", remedy="pass a positive number, or None for no clipping"
            )


def _check_metric_names(step: TrainStep) -> None:
    """A step tells each of its numbers under a name of its own; so does an evaluation."""
    taken = {"loss": "the loss is"}
    if step.training_metrics:
        taken["norm"] = "the norm of the gradients is"  # also where it is not asked for
        if step.penalty is not None:
            taken["penalty"] = "the penalty is"
    for name in step.metrics or {}:
        if name in taken:
            raise InvalidInputError(
                f"a metric cannot be called {name!r}",
                why=f"{taken[name]} told under that name",
                remedy=f"give it another key in metrics, such as {f'my_{name}'!r}",
            )


def _schedule(step: TrainStep) -> Schedule | None:
    given = step.scheduler
    if given is None:
        return None
    schedule = given if isinstance(given, Schedule) else Schedule(given)
    check_schedule(schedule, step.optimizer)
    return schedule


def check_stored(tensors: Mapping[str, torch.Tensor]) -> None:
    """Parameters and buffers have shapes, are on the CPU and are float32 where they are floats."""
    for name, tensor in tensors.items():
        if isinstance(tensor, (nn.UninitializedParameter, nn.UninitializedBuffer)):
            raise InvalidInputError(
                f"{name} has no shape yet", remedy="run the model once on an example batch first"
            )
        if tensor.device.type != "cpu":
            raise InvalidInputError(
                f"{name} is on {tensor.device}",
                why="compiling reads the weights, and compares with PyTorch on the CPU",
                remedy="call model.cpu(), and make the optimizer from its parameters after that",
            )
        if (tensor.is_floating_point() and tensor.dtype != torch.float32) or tensor.is_complex():
            raise UnsupportedOpError(
                f"{name} is {tensor.dtype}, not torch.float32", remedy="call model.float() first"
            )


def _group_names(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> tuple[tuple[str, ...], ...]:
    names = {id(p): name for name, p in parameters.items()}
    groups: list[tuple[str, ...]] = []
    for index, group in enumerate(optimizer.param_groups):
        members: list[Any] = group["params"]
        foreign = [p for p in members if id(p) not in names]
        if foreign:
            raise InvalidInputError(
                f"group {index} of the optimizer holds a tensor of shape "
                f"{tuple(foreign[0].shape)} that is not a parameter of the model",
                why="the step trains the model's parameters only",
                remedy="build the optimizer from this very model: Optimizer(model.parameters())",
            )
        groups.append(tuple(names[id(p)] for p in members))
    return tuple(groups)
