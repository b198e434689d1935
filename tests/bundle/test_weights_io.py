"""Files to and from PyTorch: state dicts, and runs that continue exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import hearth
from hearth.bundle.checkpoint import decode_checkpoint


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.fc(x))


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True),
}


def groups(model: nn.Module) -> list[dict[str, Any]]:
    return [{"params": model.norm.parameters(), "lr": 0.05}, {"params": model.fc.parameters()}]


def take_steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        optimizer.zero_grad()
        model(torch.randn(8, 4, generator=generator)).square().sum().backward()
        optimizer.step()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return list(a) == list(b) and all(
        a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a
    )


def test_a_state_dict_survives_the_file(tmp_path: Path) -> None:
    model = Model()
    take_steps(model, torch.optim.SGD(model.parameters(), 0.1), 2)
    hearth.save_weights(model.state_dict(), tmp_path / "w.safetensors")
    loaded = hearth.load_weights(tmp_path / "w.safetensors")
    assert same(loaded, model.state_dict())
    Model().load_state_dict(loaded)


def test_weights_that_the_model_ties_must_agree_in_the_file(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    hearth.save_weights(model.state_dict(), tmp_path / "w")
    model[1].weight = model[0].weight
    with pytest.raises(hearth.BundleFormatError, match=r"'1\.weight' is tied to '0\.weight'"):
        hearth.load_weights(tmp_path / "w", like=model.state_dict())
    hearth.save_weights(model.state_dict(), tmp_path / "w")
    hearth.load_weights(tmp_path / "w", like=model.state_dict())
    hearth.load_weights(tmp_path / "w", like=model.to("meta").state_dict())


def test_views_and_transposes_are_saved_as_they_look(tmp_path: Path) -> None:
    base = torch.arange(6.0).reshape(2, 3)
    hearth.save_weights({"t": base.T, "row": base[1]}, tmp_path / "w")
    loaded = hearth.load_weights(tmp_path / "w")
    assert torch.equal(loaded["t"], base.T)
    assert torch.equal(loaded["row"], base[1])


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_run_continues_from_its_checkpoint_bit_for_bit(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    model = Model()
    optimizer = OPTIMIZERS[kind](groups(model))
    take_steps(model, optimizer, 3)
    hearth.save_checkpoint(tmp_path / "run", model, optimizer, step=3, seed=7)

    loaded = hearth.load_checkpoint(tmp_path / "run")
    assert (loaded.step, loaded.seed) == (3, 7)
    again = Model()
    again.load_state_dict(loaded.model)
    resumed = OPTIMIZERS[kind](groups(again))
    resumed.load_state_dict(loaded.optimizer)
    take_steps(model, optimizer, 4)
    take_steps(again, resumed, 4)
    assert same(dict(again.state_dict()), dict(model.state_dict()))


def test_a_checkpoint_keeps_the_learning_rates_of_its_groups(tmp_path: Path) -> None:
    model = Model()
    optimizer = OPTIMIZERS["adam"](groups(model))
    take_steps(model, optimizer, 1)
    optimizer.param_groups[1]["lr"] = 0.5
    hearth.save_checkpoint(tmp_path / "run", model, optimizer)
    described = decode_checkpoint((tmp_path / "run").read_bytes()).description
    assert [g.learning_rate for g in described.groups] == [0.05, 0.5]
    assert described.groups[0].parameters == ("norm.weight", "norm.bias")
    loaded = hearth.load_checkpoint(tmp_path / "run")
    assert [g["lr"] for g in loaded.optimizer["param_groups"]] == [0.05, 0.5]


def test_a_run_that_has_not_begun_has_no_checkpoint(tmp_path: Path) -> None:
    model = Model()
    with pytest.raises(hearth.InvalidInputError, match="has not taken a step"):
        hearth.save_checkpoint(tmp_path / "run", model, OPTIMIZERS["adam"](model.parameters()))


def test_json_weights_need_the_model_to_tell_dots_from_underscores(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    weights = {"weight": [1, 2, 3, 4], "bias": [5, 6]}
    path = tmp_path / "w.json"
    path.write_text(json.dumps({"weights": weights}))
    with pytest.raises(hearth.InvalidInputError, match="like="):
        hearth.load_weights(path)
    loaded = hearth.load_weights(path, like=model.state_dict())
    model.load_state_dict(loaded)
    assert model.weight.tolist() == [[1, 2], [3, 4]]


def test_a_file_of_another_model_is_named(tmp_path: Path) -> None:
    hearth.save_weights(nn.Linear(2, 2).state_dict(), tmp_path / "w")
    with pytest.raises(hearth.BundleFormatError, match="misses 'fc.weight'"):
        hearth.load_weights(tmp_path / "w", like=Model().state_dict())
    with pytest.raises(hearth.BundleFormatError, match="is not a Hearth checkpoint"):
        hearth.load_checkpoint(tmp_path / "w")
    with pytest.raises(hearth.StorageError, match="cannot read"):
        hearth.load_weights(tmp_path / "none")
    with pytest.raises(hearth.StorageError, match="cannot write"):
        hearth.save_weights({}, tmp_path / "no" / "folder")


def test_names_can_be_mapped(tmp_path: Path) -> None:
    hearth.save_weights({"a": torch.ones(1)}, tmp_path / "w")
    assert list(hearth.load_weights(tmp_path / "w", names={"a": "b"})) == ["b"]
