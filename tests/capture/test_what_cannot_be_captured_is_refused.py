"""Every way in which a step cannot be compiled ends in an error that names the user's line."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from hearth.driver.check import check
from hearth.errors import (
    CaptureError,
    HearthError,
    InvalidInputError,
    UnsupportableError,
    UnsupportedOpError,
)
from hearth.steps.programs import capture_evaluate, capture_gradients
from hearth.steps.train_step import TrainStep


class Net(nn.Module):
    """A linear model whose forward is given by the test."""

    def __init__(self, forward: Callable[[Net, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.body = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(self, x)


class InNumpy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.sin(x.detach().numpy()))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


@torch.library.custom_op("hearth_tests::without_shapes", mutates_args=())
def without_shapes(x: torch.Tensor) -> torch.Tensor:
    return x.clone()


@torch.library.custom_op("hearth_tests::with_shapes", mutates_args=())
def with_shapes(x: torch.Tensor) -> torch.Tensor:
    return x.clone()


with_shapes.register_fake(torch.empty_like)
with_shapes.register_autograd(lambda _, gradient: gradient)

STRAY = nn.Parameter(torch.ones(3))


def branches_on_values(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.linear(x) if x.sum() > 0 else -net.linear(x)


def reads_an_item(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.linear(x) * x.max().item()


def selects_by_a_mask(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.linear(x[x[:, 0] > 0])


def finds_what_is_not_zero(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.linear(x) * torch.nonzero(x).sum()


def counts_unknown_classes(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.linear(x) * torch.bincount(x.argmax(1)).max()


def encodes_unknown_classes(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.linear(x) * F.one_hot(x.argmax(1)).sum()


def splits_by_a_tensor(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.linear(x) * x.tensor_split(x[0, :2].long(), 1)[0].sum()


def branches_on_the_batch_size(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.linear(x).relu() if len(x) > 10 else net.linear(x)


def treats_one_sample_otherwise(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.linear(x).relu() if len(x) == 1 else net.linear(x)


def loops_while_values_are_small(net: Net, x: torch.Tensor) -> torch.Tensor:
    while x.abs().max() < 5:
        x = 2 * x
    return net.linear(x)


def has_rows_of_different_lengths(net: Net, x: torch.Tensor) -> torch.Tensor:
    lengths = x[:, 0].long() + 1
    packed = nn.utils.rnn.pack_padded_sequence(x[:, :, None], lengths, batch_first=True)
    return net.linear(nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)[0][..., 0])


def cuts_to_the_longest(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.linear(x)[:, : int(x.max())]


def computes_in_numpy(net: Net, x: torch.Tensor) -> torch.Tensor:
    return InNumpy.apply(net.linear(x))  # type: ignore[no-any-return,no-untyped-call]


def calls_an_operator_without_shapes(net: Net, x: torch.Tensor) -> torch.Tensor:
    return without_shapes(net.linear(x))


def repeats_by_the_batch_size(net: Net, x: torch.Tensor) -> torch.Tensor:
    for _ in range(len(x) // 4):
        x = x + 1
    return net.linear(x)


def scales_by_a_root(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.linear(x) * len(x) ** 0.5


def makes_a_batch_sized_table(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.linear(x) + torch.tensor([float(i) for i in range(len(x))])[:, None]


def takes_three_samples(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.linear(x[:3])


def drops_the_first_sample(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.linear(x[1:])


def uses_a_stray_parameter(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.linear(x) * STRAY


def raises(net: Net, x: torch.Tensor) -> torch.Tensor:
    raise ValueError("a message of the model")


def has_a_wrong_shape(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.linear(x[:, :2])


def detaches(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.linear(x).detach()


CASES: dict[Callable[..., Any], tuple[type[HearthError], str]] = {
    branches_on_values: (UnsupportableError, "values that are only known when it runs"),
    reads_an_item: (UnsupportableError, "values that are only known when it runs"),
    selects_by_a_mask: (UnsupportableError, "torch.where(mask, x, 0) instead of x[mask]"),
    finds_what_is_not_zero: (UnsupportableError, "torch.nonzero_static with a size"),
    counts_unknown_classes: (UnsupportableError, "F.one_hot(x, classes).sum(0)"),
    encodes_unknown_classes: (UnsupportableError, "give one_hot its num_classes"),
    splits_by_a_tensor: (UnsupportableError, "tensor_split plain integers"),
    branches_on_the_batch_size: (CaptureError, "different batch sizes"),
    treats_one_sample_otherwise: (CaptureError, "relu is called 1 times for one sample"),
    loops_while_values_are_small: (UnsupportableError, "values that are only known when it runs"),
    has_rows_of_different_lengths: (UnsupportableError, "values that are only known when it runs"),
    cuts_to_the_longest: (UnsupportableError, "values that are only known when it runs"),
    computes_in_numpy: (UnsupportableError, "compute with torch operations"),
    calls_an_operator_without_shapes: (UnsupportableError, "as a function of torch operations"),
    repeats_by_the_batch_size: (CaptureError, "different batch sizes"),
    scales_by_a_root: (CaptureError, "different batch sizes"),
    makes_a_batch_sized_table: (CaptureError, "different batch sizes"),
    takes_three_samples: (CaptureError, "takes 3 of B elements"),
    drops_the_first_sample: (CaptureError, "B + -1 elements"),
    uses_a_stray_parameter: (CaptureError, "parameter of shape"),
    raises: (CaptureError, "a message of the model"),
    has_a_wrong_shape: (CaptureError, "same reduction dim"),
    detaches: (UnsupportableError, "does not depend on any trainable parameter"),
}


def step_of(net: nn.Module, loss: Any = None, **options: Any) -> TrainStep:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    return TrainStep(net, loss or (lambda o, y: (o.sum() - y.sum()) ** 2), optimizer, **options)


@pytest.mark.parametrize("forward", CASES, ids=lambda f: f.__name__)
def test_a_model_that_cannot_be_captured_names_the_reason_and_the_line(forward: Any) -> None:
    kind, text = CASES[forward]
    with pytest.raises(kind, match=re.escape(text)) as caught:
        capture_gradients(step_of(Net(forward)), torch.randn(4, 4), torch.randn(4, 3))
    if forward not in (makes_a_batch_sized_table, detaches, computes_in_numpy):
        assert f"in {forward.__name__}" in caught.value.where, caught.value.where
        assert re.match(r"\S+\.py:\d+ ", caught.value.where)
    if forward is not uses_a_stray_parameter:
        assert caught.value.remedy


def test_an_output_that_loses_the_batch_of_one_is_refused() -> None:
    step = step_of(Net(lambda net, x: net.linear(x)[:, :1].squeeze()), lambda o, y: o.sum())
    with pytest.raises(CaptureError, match=re.escape("shape () for one sample and [B]")) as caught:
        capture_evaluate(step, torch.randn(4, 4), torch.randn(4))
    assert "squeeze(axis)" in caught.value.remedy


def test_a_model_that_refuses_one_sample_is_captured_for_more() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    assert capture_gradients(step_of(net), torch.randn(4, 4), torch.randn(4, 3)).nodes


def test_all_gaps_are_in_one_report_with_their_lines() -> None:
    def forward(net: Net, x: torch.Tensor) -> torch.Tensor:
        spectrum = torch.fft.fft(x).abs()
        return with_shapes(net.linear(spectrum))

    report = check(step_of(Net(forward)), torch.randn(4, 4), torch.randn(4, 3))
    ours, theirs = (
        next(gap for gap in report.gaps if gap.op.startswith(name))
        for name in ("aten._fft", "hearth_tests.with_shapes")
    )
    spectrum, result = (int(g.origin.split(":")[1].split()[0]) for g in (ours, theirs))
    assert result == spectrum + 1
    assert "hearth/capture/decompositions" in theirs.hint


def test_an_autograd_function_of_torch_operations_keeps_its_own_gradient() -> None:
    class Steep(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            (x,) = ctx.saved_tensors
            return 3 * x * gradient

    net = Net(lambda net, x: Steep.apply(net.linear(x)))  # type: ignore[no-untyped-call]
    graph = capture_gradients(step_of(net), torch.randn(4, 4), torch.randn(4, 3))
    assert any(3 in node.args for node in graph.nodes)


def test_a_submodule_may_have_the_name_of_a_method() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.double = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            (layer,) = self.children()
            return layer(x)  # type: ignore[no-any-return]

    graph = capture_gradients(step_of(Odd()), torch.randn(4, 4), torch.randn(4, 3))
    gradients = {o.name for o in graph.outputs if o.role == "gradient"}
    assert gradients == {"double.weight", "double.bias"}


@pytest.mark.parametrize(
    "loss",
    [
        lambda o, y: (o - y) ** 2,
        lambda o, y: 1.0,
        nn.MSELoss(reduction="none"),
    ],
    ids=["per element", "a number", "no reduction"],
)
def test_a_loss_that_is_not_a_scalar_is_refused(loss: Any) -> None:
    with pytest.raises(CaptureError, match="the loss is (not a scalar|a float, not a tensor)"):
        capture_gradients(step_of(nn.Linear(4, 3), loss), torch.randn(4, 4), torch.randn(4, 3))


def test_a_step_without_a_trainable_parameter_is_refused() -> None:
    net = nn.Linear(4, 3).requires_grad_(False)
    with pytest.raises(CaptureError, match="nothing to train"):
        step_of(net)


def test_an_optimizer_of_another_model_is_refused() -> None:
    other = nn.Linear(7, 2)
    with pytest.raises(InvalidInputError, match=r"\(2, 7\) that is not a parameter of the model"):
        TrainStep(nn.Linear(4, 3), F.mse_loss, torch.optim.SGD(other.parameters(), lr=0.1))


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"model": len}, InvalidInputError, "model is a builtin"),
        ({"loss": 3}, InvalidInputError, "loss is a int"),
        ({"optimizer": "sgd"}, InvalidInputError, "optimizer is a str"),
        ({"precision": "float64"}, InvalidInputError, "precision is 'float64'"),
        ({"clip_grad_norm": -1.0}, InvalidInputError, "clip_grad_norm is -1.0"),
        ({"clip_grad_value": 0}, InvalidInputError, "clip_grad_value is 0"),
        ({"clip_grad_norm": float("nan")}, InvalidInputError, "clip_grad_norm is nan"),
        ({"metrics": {"f1": 0.5}}, InvalidInputError, "f1 is a float"),
    ],
)
def test_a_wrong_argument_is_named(change: dict[str, Any], kind: Any, text: str) -> None:
    net = nn.Linear(4, 3)
    given = {"model": net, "loss": F.mse_loss, "optimizer": torch.optim.SGD(net.parameters())}
    with pytest.raises(kind, match=re.escape(text)):
        TrainStep(**{**given, **change})


def test_a_model_in_double_precision_is_refused() -> None:
    with pytest.raises(UnsupportedOpError, match=r"weight is torch.float64"):
        step_of(nn.Linear(4, 3).double())


def test_a_lazy_model_is_refused_until_it_has_shapes() -> None:
    net = nn.LazyLinear(3)
    with pytest.raises(InvalidInputError, match="weight has no shape yet"):
        step_of(net)


@pytest.mark.parametrize(
    ("inputs", "targets", "text"),
    [
        (torch.randn(4, 4), torch.randn(5, 3), "batch sizes [4, 5]"),
        (torch.randn(0, 4), torch.randn(0, 3), "batch sizes [0, 0]"),
        (torch.tensor(1.0), torch.randn(5, 3), "a 0-d tensor"),
        (([1.0, 2.0],), torch.randn(5, 3), "inputs[0] is a list"),
        (torch.randn(4, 4).double(), torch.randn(4, 3), "inputs[0] is torch.float64"),
    ],
)
def test_wrong_examples_are_named(inputs: Any, targets: Any, text: str) -> None:
    with pytest.raises(HearthError, match=re.escape(text)):
        capture_gradients(step_of(nn.Linear(4, 3)), inputs, targets)
