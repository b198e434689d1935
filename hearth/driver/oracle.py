"""PyTorch itself, eager, as the judge of a compiled step, in any floating-point type.

It runs copies: the user's model and optimizer are never touched.  Random draws (dropout) are
replayed from the counter-based generator of the bundle, so that masks are the same.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from hearth.capture.autocast import HALVES, as_on_cuda
from hearth.capture.fastpath import without_fastpath
from hearth.capture.random import replay_random
from hearth.steps.augment import augment
from hearth.steps.mixed import GROWTH_TRACKER, LOSS_SCALE, autocast
from hearth.steps.optimizer_state import (
    describe_optimizer,
    from_torch_optimizer,
    to_torch_state_dict,
)
from hearth.steps.train_step import TrainStep

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one forward and backward pass gives; gradients by state_dict key, before clipping."""

    loss: Array
    outputs: tuple[Array, ...]
    gradients: dict[str, Array]


class Oracle:
    """A training step in eager PyTorch with its own state.

    >>> oracle = Oracle(step, torch.float64)                                    # doctest: +SKIP
    >>> oracle.gradients([x], [y], seed=0).loss                                 # doctest: +SKIP
    """

    def __init__(self, step: TrainStep, dtype: torch.dtype) -> None:
        self.dtype = dtype
        model, self._optimizer, loss, augmentation = copy.deepcopy(
            (step.model, step.optimizer, step.loss, step.augmentation)
        )
        self._model = model.to(dtype)
        if not model.training:
            model.train()
        self._loss, self._augmentation = _in_type(loss, dtype), _in_type(augmentation, dtype)
        self._precision = step.precision
        # In float64 nothing overflows, and scaling by powers of two changes nothing.
        self._scaler = torch.amp.GradScaler("cpu", enabled=False)
        if step.scaling is not None and dtype == torch.float32:
            self._scaler = torch.amp.GradScaler("cpu")
            self._scaler.load_state_dict(step.scaling.to_torch_state_dict())
        self._penalty, self._trained = step.penalty, step.trainable
        self._clip_grad_value, self._clip_grad_norm = step.clip_grad_value, step.clip_grad_norm
        # An optimizer that has stepped already: its state in our type, its count as our start.
        self._optimizer.load_state_dict(self._optimizer.state_dict())
        self._names = {self._model.get_parameter(name): name for name in step.parameters}
        self.step_count = from_torch_optimizer(self._optimizer, self._names)[1]

    @property
    def weights(self) -> dict[str, Array]:
        """Everything of the state_dict, floats in the oracle's type."""
        return {k: v.detach().numpy().copy() for k, v in self._model.state_dict().items()}

    @property
    def optimizer_state(self) -> dict[str, Array]:
        """What the optimizer has gathered, by KEY/PARAMETER."""
        tensors, _ = from_torch_optimizer(self._optimizer, self._names)
        return {name: tensor.numpy().copy() for name, tensor in tensors.items()}

    def load_state(self, state: Mapping[str, Array], step: int = 0) -> None:
        """The weights and, after the first step, the optimizer's KEY/PARAMETER tensors."""
        self._load_scaler(state)
        known = self._model.state_dict()
        tensors = {k: torch.from_numpy(np.array(v)) for k, v in state.items()}
        self._model.load_state_dict({k: v for k, v in tensors.items() if k in known})
        if step:
            described = describe_optimizer(self._optimizer, self._names)
            gathered = {k: v for k, v in tensors.items() if k not in known}
            self._optimizer.load_state_dict(to_torch_state_dict(described, gathered, step))
            self.step_count = step

    def gradients(self, inputs: Sequence[Array], targets: Sequence[Array], seed: int) -> Evaluation:
        """Forward, loss and backward in training mode; the state stays as it is."""
        kept = copy.deepcopy(self._model.state_dict())
        evaluation = self._backward(inputs, targets, seed)
        self._model.load_state_dict(kept)
        if self._scaler.is_enabled():
            self._scaler.update(self._scaler.get_scale())  # forgets the gradients it has seen
        return evaluation

    @property
    def loss_scale(self) -> float:
        return self._scaler.get_scale()

    def _load_scaler(self, state: Mapping[str, Array]) -> None:
        if self._scaler.is_enabled() and LOSS_SCALE in state:
            stands = {
                "scale": float(state[LOSS_SCALE]), "_growth_tracker": int(state[GROWTH_TRACKER])
            }  # fmt: skip
            self._scaler.load_state_dict({**self._scaler.state_dict(), **stands})

    def train(
        self, inputs: Sequence[Array], targets: Sequence[Array], seed: int,
        disturb: Callable[[Array], Array] | None = None,
    ) -> Evaluation:  # fmt: skip
        """One optimizer step; `disturb` changes each gradient on its way to the optimizer."""
        evaluation = self._backward(inputs, targets, seed)
        if disturb is not None:
            for p in self._model.parameters():
                if p.grad is not None:
                    p.grad.copy_(torch.from_numpy(disturb(p.grad.numpy())))
        trained = [p for g in self._optimizer.param_groups for p in g["params"]]
        if self._clip_grad_value is not None:
            torch.nn.utils.clip_grad_value_(trained, self._clip_grad_value, foreach=False)
        if self._clip_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(trained, self._clip_grad_norm, foreach=False)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self.step_count += 1
        return evaluation

    def predict(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """The outputs in evaluation mode, by the path of training (`capture/fastpath.py`)."""
        modes = {module: module.training for module in self._model.modules()}
        self._model.eval()
        with torch.no_grad(), without_fastpath(), self._computing():
            outputs = self._model(*self._tensors(inputs))
        for module, training in modes.items():
            module.training = training
        return tuple(_array(o) for o in _flat(outputs))

    def _backward(self, inputs: Sequence[Array], targets: Sequence[Array], seed: int) -> Evaluation:
        self._optimizer.zero_grad(set_to_none=True)
        with replay_random(seed, self.step_count):
            with _computing_in(self.dtype):
                batch = self._tensors(inputs), self._tensors(targets)
                given, wanted = augment(self._augmentation, *batch)
            with self._computing():
                outputs = self._model(*given)
                loss = self._loss(outputs, *wanted)
            with _computing_in(self.dtype):
                if self._penalty is not None:
                    trained = {n: self._model.get_parameter(n) for n in self._trained}
                    loss = loss + self._penalty(trained)
                self._scaler.scale(loss).backward()
                self._scaler.unscale_(self._optimizer)
        gradients = {
            name: (torch.zeros_like(p) if p.grad is None else p.grad).detach().numpy().copy()
            for name, p in self._model.named_parameters()
            if p.requires_grad
        }
        return Evaluation(_array(loss), tuple(_array(o) for o in _flat(outputs)), gradients)

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Forward and loss: in our type, or in half where the step is mixed and we are float32."""
        with _computing_in(self.dtype), as_on_cuda(), autocast(self._precision):
            yield

    def _tensors(self, arrays: Sequence[Array]) -> list[torch.Tensor]:
        tensors = [torch.from_numpy(np.ascontiguousarray(a)) for a in arrays]
        return [t.to(self.dtype) if t.is_floating_point() else t for t in tensors]


def _in_type(function: Any, dtype: torch.dtype) -> Any:
    return function.to(dtype) if isinstance(function, torch.nn.Module) else function


@contextmanager
def _computing_in(dtype: torch.dtype) -> Iterator[None]:
    """Tensors that the model or the loss makes or brings along take part in this type."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with _Widening(dtype):
            yield
    finally:
        torch.set_default_dtype(default)


class _Widening(TorchFunctionMode):
    """Converts float32 operands, such as class weights that a loss closes over."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        args, kwargs = pytree.tree_map_only(torch.Tensor, self._widened, (args, kwargs or {}))
        return function(*args, **kwargs)

    def _widened(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self._dtype) if tensor.dtype == torch.float32 else tensor


def _array(tensor: torch.Tensor) -> Array:
    array: Array = (tensor.float() if tensor.dtype in HALVES else tensor).detach().numpy()
    return array


def _flat(outputs: Any) -> list[torch.Tensor]:
    return list(pytree.tree_leaves(outputs))
