"""Capturing borrows the user's objects and returns them as they were; graphs are plain data."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from examples.models import MnistCNN
from hearth.capture.graph import Value
from hearth.steps.function import capture_function
from hearth.steps.programs import StepPrograms, capture_gradients, capture_programs
from hearth.steps.train_step import TrainStep, state_entries
from tests.capture.interpreter import Interpreter


class Remembers(nn.Module):
    """Writes to itself in forward, as models for debugging do."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 3), nn.BatchNorm1d(3)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.last = self.norm(self.linear(x))
        return self.last


def snapshot(model: nn.Module) -> Any:
    return (
        {n: (id(p), p.detach().clone(), p.grad) for n, p in model.named_parameters()},
        {n: (id(b), b.clone()) for n, b in model.named_buffers()},
        [m.training for m in model.modules()],
        set(model.__dict__),
    )


@pytest.mark.parametrize("training", [True, False])
def test_model_optimizer_and_random_state_are_untouched(training: bool) -> None:
    model = Remembers().train(training)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    step = TrainStep(model, nn.CrossEntropyLoss(), optimizer, clip_grad_norm=1.0)
    before, state = snapshot(model), copy.deepcopy(optimizer.state_dict())
    groups, random = copy.deepcopy(optimizer.param_groups), torch.get_rng_state()
    capture_programs(step, torch.randn(4, 4), torch.tensor([0, 1, 2, 0]))
    torch.set_rng_state(random)
    capture_programs(step, torch.zeros(4, 4), torch.tensor([0, 1, 2, 0]))
    assert torch.equal(torch.get_rng_state(), random)
    after = snapshot(model)
    assert str(before) == str(after)
    assert model.calls == 0
    assert optimizer.state_dict() == state
    assert [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups] == [
        {k: v for k, v in g.items() if k != "params"} for g in groups
    ]
    assert not torch.compiler.is_compiling()


def test_a_frozen_norm_inside_a_training_model_stays_frozen() -> None:
    model = Remembers().train()
    model.norm.eval()
    step = TrainStep(model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1))
    graph = capture_gradients(step, torch.randn(4, 4), torch.tensor([0, 1, 2, 0]))
    assert [o.name for o in graph.outputs if o.role == "buffer"] == []


def cnn_programs() -> tuple[TrainStep, StepPrograms]:
    model = MnistCNN()
    step = TrainStep(model, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters()))
    return step, capture_programs(step, torch.randn(4, 1, 28, 28), torch.zeros(4).long())


def test_a_graph_is_plain_data_in_order_without_dead_nodes() -> None:
    _, programs = cnn_programs()
    for graph in (
        programs.gradients,
        programs.evaluate,
        programs.predict,
        programs.optimizer.graph,
    ):
        known = {i.value for i in graph.inputs} | set(graph.constants)
        used = {o.value for o in graph.outputs}
        for index, node in enumerate(graph.nodes):
            assert node.index == index
            assert all(v in known for v in node.operands()), node
            assert not _torch_inside(node.args)
            known.update(node.results)
            used.update(node.operands())
        assert all(used.intersection(n.results) for n in graph.nodes)
        assert all(isinstance(data, np.ndarray) for data in graph.constants.values())


def _torch_inside(argument: Any) -> bool:
    if isinstance(argument, tuple):
        return any(map(_torch_inside, argument))
    return type(argument).__module__.startswith("torch")


def test_every_node_names_the_line_and_the_module_it_comes_from() -> None:
    _, programs = cnn_programs()
    convolution = next(n for n in programs.gradients.nodes if "convolution" in n.target)
    assert convolution.origin.startswith("examples/models.py:")
    assert convolution.origin.endswith("in forward (module conv1)")
    gradients = [n for n in programs.gradients.nodes if n.target == "hearth.conv_weight_grad"]
    assert [n.origin.split("(")[1] for n in gradients] == [
        "module conv2), gradient",
        "module conv1), gradient",
    ]
    assert "unknown line" not in str(programs.gradients)


def test_the_programs_of_a_step_carry_the_names_of_the_contract() -> None:
    step, programs = cnn_programs()
    graph = programs.gradients
    assert {i.role for i in graph.inputs} == {
        *("parameter", "buffer", "input", "target", "seed", "step")
    }
    assert [o.name for o in graph.outputs if o.role == "gradient"] == list(step.parameters)
    assert [o.name for o in graph.outputs if o.role == "buffer"] == list(step.buffers)
    assert [(o.role, o.name) for o in programs.evaluate.outputs] == [
        ("loss", "loss"),
        ("output", "output/0"),
        ("metric", "accuracy"),
    ]
    assert graph.streams == 1
    assert programs.evaluate.streams == 0
    marker = next(n for n in graph.nodes if n.target == "hearth.index_range")
    assert (marker.args[0], *marker.args[1:]) == (graph.input("target/0").value, 10, -100)


def test_tied_weights_have_one_gradient_and_two_names() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    model.register_buffer("scratch", torch.zeros(2), persistent=False)
    step = TrainStep(model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1))
    graph = capture_gradients(step, torch.randn(2, 4), torch.randn(2, 4))
    gradients = [o.name for o in graph.outputs if o.role == "gradient"]
    assert gradients == ["0.weight", "0.bias", "1.bias"]
    entries = {e.name: e for e in state_entries(model, step.trainable)}
    assert list(entries) == [*model.state_dict(), "scratch"]
    assert entries["1.weight"].tied_to == "0.weight"
    assert entries["1.weight"].trainable
    assert not entries["scratch"].persistent


def test_any_function_can_be_captured_with_and_without_a_batch() -> None:
    def assign(points: torch.Tensor, centres: torch.Tensor) -> Any:
        distance = ((points[:, None] - centres[None]) ** 2).sum(2)
        nearest = distance.argmin(1)
        mine = (nearest[:, None] == torch.arange(len(centres))).to(points.dtype)
        return {"centres": mine.T @ points / mine.sum(0)[:, None], "labels": nearest}

    graph = capture_function(assign, (torch.randn(5, 2), torch.randn(3, 2)), (True, False))
    for batch in (3, 40):
        torch.manual_seed(batch)
        points = torch.randn(batch, 2).double()
        centres = points[:3].clone()
        given = {
            "input/0": points,
            "input/1": centres,
            "hearth/seed": torch.zeros(2),
            "hearth/step": torch.zeros(()),
        }
        outputs = Interpreter(graph, batch).run(given)
        expected = assign(points, centres)
        assert torch.allclose(outputs["output", "output/centres"], expected["centres"], atol=1e-12)
        assert torch.equal(outputs["output", "output/labels"], expected["labels"])

    fixed = capture_function(lambda a, b: a @ b, (torch.randn(2, 3), torch.randn(3, 4)), False)
    assert all(e.is_static for n in fixed.nodes for e in n.shape)
    assert isinstance(fixed.outputs[0].value, Value)
