"""A bundle that trains a model explains it, with the weights that it has at the moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import hearth
from hearth.errors import InvalidInputError
from hearth.functions import attribution

METHODS = ["saliency", "grad_cam", "integrated_gradients"]


def net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )


@pytest.mark.wasm
def test_explanations_follow_the_weights(tmp_path: Path) -> None:
    model = net(0)
    step = hearth.TrainStep(model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), 0.1))
    images = torch.randn(2, 1, 6, 6)
    programs = hearth.explain(model, images, methods=METHODS)
    assert model.training
    labels = torch.tensor([0, 2])
    compiled = hearth.compile(step, images, labels, backends=["wasm"], explain=programs)
    compiled.save(tmp_path, runtime=False)
    maps: dict[int, dict[str, np.ndarray]] = {}
    with hearth.open_runner(tmp_path, "wasm") as runner:
        runner.train_batch((images.numpy(),), (labels.numpy(),))
        trained = runner.export_weights()
        # Adebayo et al., Sanity checks for saliency maps, 2018: other weights, another map.
        for seed, weights in (
            (0, trained),
            (1, {k: v.numpy() for k, v in net(1).state_dict().items()}),
        ):
            runner.load_weights(weights)
            eager = net(seed).double().eval()
            eager.load_state_dict({k: torch.tensor(v) for k, v in weights.items()})
            looks = {
                "saliency": attribution.saliency(eager),
                "grad_cam": attribution.grad_cam(eager, eager[0]),
                "integrated_gradients": attribution.integrated_gradients(eager),
            }
            maps[seed] = {}
            for name, look in looks.items():
                ours = runner.run(name, (images[:1].numpy(), labels[:1].numpy()))["output/0"]
                want = look(images[:1].double(), labels[:1])
                scale = want.abs().max().item()
                np.testing.assert_allclose(ours, want.detach(), atol=2.0**-12 * scale)
                maps[seed][name] = ours
    for name in METHODS:
        alike = np.corrcoef(maps[0][name].ravel(), maps[1][name].ravel())[0, 1]
        assert abs(alike) < 0.9, name


def test_integrated_gradients_add_up_to_the_difference_of_the_scores() -> None:
    model = net(0).double().eval()
    images, classes = torch.randn(2, 1, 6, 6).double(), torch.tensor([1, 2])
    shares = attribution.integrated_gradients(model, steps=512)(images, classes).sum((1, 2, 3))
    scores = model(images) - model(torch.zeros_like(images))
    np.testing.assert_allclose(shares, scores[torch.arange(2), classes].detach(), atol=1e-3)


def test_what_cannot_be_explained_is_refused() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    images = torch.zeros(1, 1, 6, 6)
    assert "grad_cam" not in hearth.explain(model, images)
    with pytest.raises(InvalidInputError, match="calls no convolution"):
        hearth.explain(model, images, methods=["grad_cam"])
    with pytest.raises(InvalidInputError, match="no method 'lime'"):
        hearth.explain(model, images, methods=["lime"])
    with pytest.raises(InvalidInputError, match="no module '7'"):
        hearth.explain(model, images, layer="7")
    with pytest.raises(InvalidInputError, match="no batch of images"):
        hearth.explain(model, torch.zeros(3))
