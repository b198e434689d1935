"""Where the casts of mixed precision are: as CUDA's lists of `torch.autocast` place them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from hearth import TrainStep
from hearth.capture import autocast
from hearth.capture.autocast import as_on_cuda
from hearth.capture.graph import AtenGraph
from hearth.errors import InvalidInputError
from hearth.steps.programs import capture_gradients


def gradients(model: nn.Module, *shape: int, precision: str = "float16",
              loss: Callable[..., Any] | None = None) -> AtenGraph:  # fmt: skip
    step = TrainStep(
        model, loss or (lambda y: y.float().square().mean()),
        torch.optim.SGD(model.parameters(), 0.1), precision=precision,
    )  # fmt: skip
    return capture_gradients(step, torch.zeros(1, *shape), ())


def dtypes(graph: AtenGraph, op: str) -> list[str]:
    return [n.dtype for n in graph.nodes if n.target.startswith(f"aten.{op}.")]


def kernels(key: str) -> set[str]:
    names = torch._C._dispatch_get_all_op_names()
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    return {n.removeprefix("aten::") for n in names if n.startswith("aten::") and has(n, key)}


def test_the_lists_are_what_cuda_has_and_the_cpu_lacks() -> None:
    ours = (*autocast.FLOAT32_LIST, *autocast.HALF_LIST, *autocast.WIDEST_LIST)
    assert {*ours, *autocast.NOT_NEEDED} == kernels("AutocastCUDA") - kernels("AutocastCPU")
    assert len(set(ours)) == len(ours)


def test_the_lists_of_the_process_stay_as_they_are() -> None:
    before = kernels("AutocastCPU")
    x = torch.randn(3, 4).half()
    with as_on_cuda(), torch.autocast("cpu", torch.float16):
        assert torch.softmax(x, 1).dtype == torch.float32
    with torch.autocast("cpu", torch.float16):
        assert torch.softmax(x, 1).dtype == torch.float16
    assert kernels("AutocastCPU") == before


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_products_are_halves_and_norms_floats(precision: str) -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.LayerNorm(48), nn.Linear(48, 5))
    graph = gradients(model, 2, 6, 6, precision=precision)
    assert set(dtypes(graph, "convolution")) == {precision}
    assert {precision} <= set(dtypes(graph, "mm"))
    assert set(dtypes(graph, "rsqrt")) == {"float32"}
    assert {o.value.dtype for o in graph.outputs} == {"float32"}


def test_softmax_and_losses_are_floats() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Softmax(1))
    graph = gradients(model, 4, loss=lambda y: nn.functional.l1_loss(y, torch.ones_like(y)))
    assert set(dtypes(graph, "exp")) == {"float32"}
    assert set(dtypes(graph, "abs")) == {"float32"}


def test_an_operation_on_halves_rounds_once() -> None:
    graph = gradients(nn.Sequential(nn.Linear(4, 4), nn.GELU()), 4)
    assert set(dtypes(graph, "erf")) == {"float32"}


class Regions(nn.Module):
    """A head that a person keeps out of autocast, as they write it for CUDA."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.body, self.head, self.device = nn.Linear(4, 4), nn.Linear(4, 2), device

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(x)
        with torch.autocast(self.device, enabled=False):
            return self.head(x.float())


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_models_own_regions_count(device: str) -> None:
    products = dtypes(gradients(Regions(device), 4), "mm")
    assert products.count("float16") == 1  # the weight gradient of the body; its bias is added
    assert products.count("float32") == 4


def test_a_region_in_a_float32_step_is_mixed() -> None:
    class Inside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cuda", torch.bfloat16):
                return self.layer(x)

    assert "bfloat16" in dtypes(gradients(Inside(), 4, precision="float32"), "mm")


def test_an_unknown_precision_is_refused_by_name() -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(InvalidInputError, match="float8"):
        TrainStep(model, nn.MSELoss(), torch.optim.SGD(model.parameters()), precision="float8")
