"""The captured update on flat vectors follows torch.optim over ten steps, clipping included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from hearth.errors import UnsupportableError
from hearth.steps.flat import flat_layout
from hearth.steps.optimizer import OptimizerProgram, capture_optimizer
from hearth.steps.optimizer_state import (
    describe_optimizer,
    from_torch_optimizer,
    to_torch_state_dict,
)
from hearth.steps.train_step import TrainStep
from tests.capture.interpreter import Interpreter

O = torch.optim  # noqa: E741
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: O.SGD(p, lr=0.1),
    "sgd momentum": lambda p: O.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2),
    "sgd dampening": lambda p: O.SGD(p, lr=0.1, momentum=0.9, dampening=0.3),
    "sgd nesterov": lambda p: O.SGD(p, lr=0.1, momentum=0.9, nesterov=True, maximize=True),
    "adam": lambda p: O.Adam(p, lr=0.01, betas=(0.8, 0.99), weight_decay=1e-2),
    "adam amsgrad": lambda p: O.Adam(p, lr=0.01, amsgrad=True),
    "adam maximize": lambda p: O.Adam(p, lr=0.01, maximize=True, eps=1e-5),
    "adam foreach": lambda p: O.Adam(p, lr=0.01, foreach=True),
    "adam fused": lambda p: O.Adam(p, lr=0.01, fused=True),
    "adamw": lambda p: O.AdamW(p, lr=0.01, weight_decay=0.05),
    "rmsprop": lambda p: O.RMSprop(p, lr=0.01),
    "rmsprop all": lambda p: O.RMSprop(p, lr=0.01, momentum=0.9, centered=True, weight_decay=0.01),
    "adagrad": lambda p: O.Adagrad(p, lr=0.05, lr_decay=0.1, initial_accumulator_value=0.25),
    "adadelta": lambda p: O.Adadelta(p, lr=0.5),
    "adamax": lambda p: O.Adamax(p, lr=0.01),
    "nadam": lambda p: O.NAdam(p, lr=0.01),
    "radam": lambda p: O.RAdam(p, lr=0.01),
    "asgd": lambda p: O.ASGD(p, lr=0.05),
    "rprop": lambda p: O.Rprop(p, lr=0.01),
    "groups": lambda p: O.AdamW(
        [{"params": p[:1]}, {"params": p[1:], "lr": 0.1, "betas": (0.5, 0.9)}]
    ),
}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 14), nn.Linear(14, 3)
        self.last.bias.requires_grad_(False)


def make(name: str, dtype: torch.dtype, clip: float | None) -> tuple[TrainStep, OptimizerProgram]:
    torch.manual_seed(1)
    net = Net()
    step = TrainStep(net, nn.MSELoss(), OPTIMIZERS[name](list(net.parameters())), clip)
    program = capture_optimizer(step, step.trainable)
    net.to(dtype)
    for state in step.optimizer.state.values():  # Adagrad makes its state at once
        state["sum"] = state["sum"].to(dtype)
    return step, program


class Flat:
    """The state of a compiled optimizer: flat vectors that start as zeros."""

    def __init__(self, step: TrainStep, program: OptimizerProgram, dtype: torch.dtype) -> None:
        self.step, self.program, self.dtype, self.steps = step, program, dtype, 0
        self.values: dict[str, torch.Tensor] = {}
        for i in program.graph.inputs:
            if i.role in ("parameter", "optimizer", "gradient"):
                self.values[i.name] = torch.zeros([e.static for e in i.value.shape], dtype=dtype)
        named = {n: p.detach().clone() for n, p in step.parameters.items()}
        self.write("parameter", named)

    def members(self) -> list[tuple[int, str, slice]]:
        found = []
        vectors = [(k, v) for k, g in enumerate(self.program.groups) for v in g.tensors]
        for k, vector in vectors:
            for name, offset in zip(vector.members, vector.layout.offsets, strict=True):
                size = self.step.parameters[name].numel()
                found.append((k, name, slice(offset, offset + size)))
        return found

    def write(self, key: str, named: dict[str, torch.Tensor]) -> None:
        for k, name, where in self.members():
            self.values[f"{key}/{k}"][where] = named[name].reshape(-1).to(self.dtype)

    def read(self, key: str) -> dict[str, torch.Tensor]:
        shapes = {n: p.shape for n, p in self.step.parameters.items()}
        return {n: self.values[f"{key}/{k}"][w].reshape(shapes[n]) for k, n, w in self.members()}

    def update(self, gradients: dict[str, torch.Tensor], lr: list[float]) -> dict[Any, Any]:
        self.write("gradient", gradients)
        extra = {
            "learning_rate": torch.tensor(lr, dtype=self.dtype),
            "hearth/step": torch.tensor(self.steps, dtype=torch.int32),
        }
        interpreter = Interpreter(self.program.graph, 1, wide=self.dtype == torch.float64)
        outputs = interpreter.run({**self.values, **extra})
        self.values.update({n: t for (role, n), t in outputs.items() if role != "norm"})
        self.steps += 1
        return outputs

    def named_state(self) -> dict[str, torch.Tensor]:
        tensors = {}
        for k, group in enumerate(self.program.groups):
            for key, shape in group.tensors[0].states.items():
                found = self.read(key) if shape else dict.fromkeys(
                    group.parameters, self.values[f"{key}/{k}"]
                )  # fmt: skip
                tensors |= {f"{key}/{n}": t for n, t in found.items() if n in group.parameters}
        return tensors


def drive(name: str, dtype: torch.dtype, clip: float | None) -> tuple[float, Flat, Any]:
    """Ten steps of both with a changing learning rate; the largest relative error."""
    step, program = make(name, dtype, clip)
    flat, worst = Flat(step, program, dtype), 0.0
    live = {n: p for n, p in step.parameters.items() if p.requires_grad}
    for i in range(10):
        for group in step.optimizer.param_groups:
            group["lr"] *= 1.0 if i < 5 else 0.7
        lrs = [group["lr"] for group in step.optimizer.param_groups]
        gradients = {
            n: torch.randn(p.shape, dtype=torch.float64).to(dtype) for n, p in live.items()
        }
        for n, p in live.items():
            p.grad = gradients[n].clone()
        outputs = flat.update(gradients, lrs)
        if clip is not None:
            norm = torch.nn.utils.clip_grad_norm_(live.values(), clip)
            assert outputs["norm", "norm"].item() == pytest.approx(norm.item(), rel=1e-6)
        step.optimizer.step()
        for n, value in flat.read("parameter").items():
            worst = max(worst, ((value - live[n]).abs().max() / live[n].abs().max()).item())
    return worst, flat, step


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_ten_float64_steps_equal_torch_optim(name: str, clip: float | None) -> None:
    worst, _, _ = drive(name, torch.float64, clip)
    # PyTorch keeps step and the products that depend on it in float32 for these
    assert worst <= (1e-6 if name in ("nadam", "asgd") else 1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_ten_float32_steps_equal_torch_optim(name: str) -> None:
    worst, _, _ = drive(name, torch.float32, 0.5)
    assert worst <= 2e-5


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_padding_between_parameters_stays_zero(name: str) -> None:
    _, flat, _ = drive(name, torch.float64, None)
    for k, _group in enumerate(flat.program.groups):
        padding = torch.ones_like(flat.values[f"parameter/{k}"], dtype=torch.bool)
        for owner, _, where in flat.members():
            if owner == k:
                padding[where] = False
        assert torch.equal(
            flat.values[f"parameter/{k}"][padding], torch.zeros(int(padding.sum())).double()
        )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_continues_in_pytorch_from_exported_state(name: str) -> None:
    _, flat, step = drive(name, torch.float64, None)
    names = {p: n for n, p in step.parameters.items()}
    description = describe_optimizer(step.optimizer, names)
    exported = to_torch_state_dict(description, flat.named_state(), flat.steps)
    again = OPTIMIZERS[name](list(step.parameters.values()))
    again.load_state_dict(exported)
    theirs = step.optimizer.state_dict()
    assert exported["param_groups"] == again.state_dict()["param_groups"]
    kept = {i: {k for k, v in s.items() if v is not None} for i, s in theirs["state"].items()}
    kept.pop(3, None)  # the frozen parameter: Adagrad prepares state that it never uses
    assert {i: set(s) for i, s in exported["state"].items()} == {i: s for i, s in kept.items() if s}
    before = {n: p.detach().clone() for n, p in step.parameters.items()}
    for p in step.parameters.values():
        p.grad = torch.ones_like(p) if p.requires_grad else None
    step.optimizer.step()
    after = {n: p.detach().clone() for n, p in step.parameters.items()}
    with torch.no_grad():
        for n, p in step.parameters.items():
            p.copy_(before[n])
    again.step()
    for n, p in step.parameters.items():
        assert torch.allclose(p, after[n], rtol=1e-7, atol=1e-9), n


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_rate_of_zero_leaves_what_has_no_gradient(name: str) -> None:
    """As in the first step of a warm-up, behind inputs that are always zero."""
    step, program = make(name, torch.float32, None)
    flat = Flat(step, program, torch.float32)
    live = {n: p for n, p in step.parameters.items() if p.requires_grad}
    zeros = {n: torch.zeros_like(p) for n, p in live.items()}
    for group in step.optimizer.param_groups:
        group.update(lr=0.0, foreach=False, fused=False)
    for _ in range(2):
        flat.update(zeros, [0.0] * len(step.optimizer.param_groups))
        for n, p in live.items():
            p.grad = zeros[n].clone()
        step.optimizer.step()
    for n, value in flat.read("parameter").items():
        assert torch.equal(value, step.parameters[n]), n


def test_moving_averages_end_at_zero() -> None:
    """A processor is slow with what float32 has below 1.18e-38."""
    step, program = make("adamw", torch.float32, None)
    flat = Flat(step, program, torch.float32)
    zeros = {n: torch.zeros_like(p) for n, p in step.parameters.items() if p.requires_grad}
    for before, after in ((1.2e-38, 0.0), (2e-38, 1.8e-38)):
        flat.write("exp_avg", {n: torch.full_like(p, before) for n, p in zeros.items()})
        flat.update(zeros, [0.01])
        for value in flat.read("exp_avg").values():
            assert torch.allclose(value, torch.full_like(value, after), rtol=1e-6, atol=0.0)


def test_state_of_a_used_optimizer_is_read_by_name() -> None:
    _, flat, step = drive("adamw", torch.float64, None)
    tensors, steps = from_torch_optimizer(
        step.optimizer, {p: n for n, p in step.parameters.items()}
    )
    mine = flat.named_state()
    assert steps == 10
    assert set(tensors) == set(mine)
    assert all(torch.allclose(t, mine[k].to(t.dtype), rtol=1e-12) for k, t in tensors.items())


def test_the_description_of_an_optimizer_is_json() -> None:
    import json

    step, _ = make("groups", torch.float32, None)
    described = describe_optimizer(step.optimizer, {p: n for n, p in step.parameters.items()})
    assert json.loads(json.dumps(described)) == described
    assert described["class"] == "AdamW"
    assert [g["parameters"][0] for g in described["groups"]] == ["first.weight", "first.bias"]
    assert described["groups"][1]["options"]["betas"] == [0.5, 0.9]


def test_bias_corrections_stay_powers_of_a_constant() -> None:
    _, program = make("adamw", torch.float32, None)
    powers = [n for n in program.graph.nodes if n.target == "aten.pow.Scalar"]
    assert {n.args[0] for n in powers} == {0.9, 0.999}
    subtracted = {n.args[1] for n in program.graph.nodes if n.target == "aten.sub.Tensor"}
    assert {n.results[0] for n in powers} <= subtracted


@pytest.mark.parametrize(
    "make_optimizer",
    [O.LBFGS, O.Adafactor, O.SparseAdam],
    ids=["lbfgs", "adafactor", "sparse adam"],
)
def test_what_is_no_fixed_sequence_of_operations_is_refused(
    make_optimizer: Any,
) -> None:
    net = Net()
    step = TrainStep(net, nn.MSELoss(), make_optimizer(list(net.parameters())))
    with pytest.raises(UnsupportableError, match="cannot be compiled"):
        capture_optimizer(step, step.trainable)


def test_members_of_a_flat_vector_are_aligned() -> None:
    layout = flat_layout([(3, 5), (64,), (), (65, 1)])
    assert layout.offsets == (0, 64, 128, 192)
    assert layout.length == 320
