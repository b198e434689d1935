"""The programs of a training step: gradients, evaluate and predict, captured as ATen graphs; and
`augment`, what the gradients do to a batch first.

Parameters and buffers enter by name and gradients and new buffers leave by name: the module is
only borrowed, with its tensors swapped for traced ones around the forward pass *and* the gradient
(`torch.utils.checkpoint` runs the forward again inside the gradient).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import GradientEdge
from torch.utils import _pytree as pytree

from hearth.capture.autocast import HALVES
from hearth.capture.graph import AtenGraph, AtenOutput
from hearth.capture.prune import prune
from hearth.capture.trace import capture
from hearth.capture.traced import TracedInput, TracedOutput, Tracing
from hearth.errors import CaptureError, UnsupportableError
from hearth.metrics import accuracy
from hearth.steps.augment import augment
from hearth.steps.examples import DRAW_INPUTS, RANDOM_INPUTS, as_tuple, check_batch, traced
from hearth.steps.mixed import LOSS_SCALE, SCALER_INPUTS, autocast
from hearth.steps.optimizer import OptimizerProgram, capture_optimizer
from hearth.steps.swap import swapped
from hearth.steps.train_step import TrainStep, untouched

Named = dict[str, torch.Tensor]
Examples = torch.Tensor | Sequence[torch.Tensor]


@dataclass(frozen=True)
class StepPrograms:
    """Every program of a training step.

    Inputs and outputs carry names: parameters and buffers their own, "input/0", "target/0",
    "output/0", "hearth/seed", "hearth/step", "loss", metrics their own.  `optimizer` continues
    `gradients`.  `augment` takes "draw" for the step, and gives what it changes under the names of
    the inputs: "input/0", "target/0".
    """

    gradients: AtenGraph
    evaluate: AtenGraph
    predict: AtenGraph
    optimizer: OptimizerProgram
    augment: AtenGraph | None = None


def capture_programs(step: TrainStep, inputs: Examples, targets: Examples) -> StepPrograms:
    """Capture every program of the step for these example inputs and targets."""
    gradients = capture_gradients(step, inputs, targets)
    evaluate = capture_evaluate(step, inputs, targets)
    with_gradient = [o.name for o in gradients.outputs if o.role == "gradient"]
    return StepPrograms(
        gradients,
        evaluate,
        predict_of(evaluate),
        capture_optimizer(step, with_gradient),
        None if step.augmentation is None else capture_augment(step, inputs, targets),
    )


def capture_gradients(step: TrainStep, inputs: Examples, targets: Examples) -> AtenGraph:
    """loss, output/K, metrics, gradient per trainable parameter that the loss reaches, buffers."""

    def body(model: nn.Module, t: Named, tracing: Tracing) -> list[TracedOutput]:
        trained = {name: t[name].detach().requires_grad_() for name in step.trainable}
        with torch.enable_grad(), swapped(step.model, {**stored(step, t), **trained}):
            batch = numbered(t, "input"), numbered(t, "target")
            given, wanted = augment(step.augmentation, *batch)
            with autocast(step.precision):
                outputs = model(*given)
                metrics = _training_metrics(step, outputs, wanted)
                loss = scalar_loss(step, outputs, wanted)
            penalty = penalty_of(step, trained)
            loss = loss if penalty is None else loss + penalty
            if not loss.requires_grad:
                raise _no_gradient(tracing)
            gradients = gradients_of(step, loss, list(trained.values()), t, tracing)
            buffers = dict(model.named_buffers())
        found = {n: g for n, g in zip(trained, gradients, strict=True) if g is not None}
        return [
            TracedOutput("loss", "loss", loss.detach()),
            *_outputs(outputs),
            *metrics,
            *([] if penalty is None else [TracedOutput("penalty", "metric", penalty.detach())]),
            *(TracedOutput(name, "gradient", g) for name, g in found.items()),
            *(TracedOutput(name, "buffer", buffers[name]) for name in step.buffers),
        ]

    graph = capture_in(step, body, inputs, targets, training=True)
    unchanged = {i.value for i in graph.inputs}
    outputs = tuple(o for o in graph.outputs if o.role != "buffer" or o.value not in unchanged)
    return replace(graph, outputs=outputs)


def capture_evaluate(step: TrainStep, inputs: Examples, targets: Examples) -> AtenGraph:
    """loss, output/K and metrics, with the model in eval mode."""

    def body(model: nn.Module, t: Named, tracing: Tracing) -> list[TracedOutput]:  # noqa: ARG001
        wanted = numbered(t, "target")
        with torch.no_grad(), swapped(step.model, stored(step, t)), autocast(step.precision):
            outputs = model(*numbered(t, "input"))
            predicted = [x.detach().clone() for x in _tensors(outputs)]  # a loss may overwrite them
            loss = scalar_loss(step, outputs, wanted)
            measured = _metrics(step, outputs, wanted)
        return [TracedOutput("loss", "loss", loss), *_outputs(predicted), *measured]

    graph = capture_in(step, body, inputs, targets, training=False)
    for output in graph.outputs:
        if output.role == "metric":
            _check_fixed_shape(output)
    return graph


def _check_fixed_shape(metric: AtenOutput) -> None:
    if not all(extent.is_static for extent in metric.value.shape):
        raise CaptureError(
            f"the shape of metric {metric.name} depends on the batch size: {metric.value.type}",
            why="metrics with dimensions are summed over batches, so all batches must agree",
            remedy="reduce it over the samples, for example with .mean() or .sum(0)",
        )


def predict_of(evaluate: AtenGraph) -> AtenGraph:
    """output/K of `evaluate` alone, which needs no targets."""
    return prune(
        replace(
            evaluate,
            inputs=tuple(i for i in evaluate.inputs if i.role != "target"),
            outputs=tuple(o for o in evaluate.outputs if o.role == "output"),
        )
    )


def capture_augment(step: TrainStep, inputs: Examples, targets: Examples) -> AtenGraph:
    """input/K and target/K where the augmentation changes them; it depends on "draw" as a training
    step does on the number of steps before it, and on nothing else but the seed.
    """
    given, wanted = as_tuple(inputs, "inputs"), as_tuple(targets, "targets")
    arguments = [*traced(given, "input"), *traced(wanted, "target"), *DRAW_INPUTS]

    def body(t: Named, tracing: Tracing) -> list[TracedOutput]:  # noqa: ARG001
        batch = numbered(t, "input"), numbered(t, "target")
        given, wanted = augment(step.augmentation, *batch)
        return [
            TracedOutput(f"{role}/{k}", "output", tensor)
            for role, tensors in (("input", given), ("target", wanted))
            for k, tensor in enumerate(tensors)
        ]

    with untouched(step.augmentation):
        graph = capture(body, arguments)
    known = {i.name: i.value for i in graph.inputs}
    changed = tuple(o for o in graph.outputs if o.value != known.get(o.name))
    graph = prune(replace(graph, outputs=changed))
    read = {v for node in graph.nodes for v in node.operands()} | {o.value for o in changed}
    kept = (i for i in graph.inputs if i.role != "target" or i.value in read)
    as_data = (replace(i, role="input") if i.role == "step" else i for i in kept)
    return replace(graph, inputs=tuple(as_data))


def gradients_of(
    step: TrainStep,
    loss: torch.Tensor,
    sources: Sequence[torch.Tensor | GradientEdge],
    t: Named,
    tracing: Tracing,
) -> list[torch.Tensor | None]:
    """The gradients of the loss; of a scaled loss, scaled down again."""
    if step.scaling is None:
        return tracing.gradient(loss, sources)
    scale = t[LOSS_SCALE]
    gradients = tracing.gradient(loss * scale, sources)
    return [None if g is None else g * scale.reciprocal() for g in gradients]


Body = Callable[[nn.Module, Named, Tracing], list[TracedOutput]]


def capture_in(
    step: TrainStep, body: Body, inputs: Examples, targets: Examples, training: bool
) -> AtenGraph:
    given, wanted = as_tuple(inputs, "inputs"), as_tuple(targets, "targets")
    check_batch((*given, *wanted))
    arguments = [
        *_inputs(step.parameters, "parameter"),
        *_inputs(step.buffers, "buffer"),
        *traced(given, "input"),
        *traced(wanted, "target"),
        *RANDOM_INPUTS,
        *(SCALER_INPUTS if step.scaling else ()),
    ]
    modules = {module: name for name, module in step.model.named_modules()}
    with untouched(step.model, step.loss, step.augmentation):
        if not (training and step.model.training):
            step.model.train(training)
        return capture(lambda t, tracing: body(step.model, t, tracing), arguments, modules)


def _inputs(tensors: Mapping[str, torch.Tensor], role: str) -> list[TracedInput]:
    return [TracedInput(n, role, tuple(t.shape), t.dtype) for n, t in tensors.items()]


def stored(step: TrainStep, t: Named) -> Named:
    """Traced parameters and buffers; buffers are copies, since modules update them in place."""
    return {
        **{name: t[name] for name in step.parameters},
        **{name: t[name].clone() for name in step.buffers},
    }


def numbered(t: Named, role: str) -> list[torch.Tensor]:
    return [tensor for name, tensor in t.items() if name.startswith(f"{role}/")]


def _outputs(outputs: Any) -> list[TracedOutput]:
    return [
        TracedOutput(f"output/{i}", "output", _widened(x.detach()))
        for i, x in enumerate(_tensors(outputs))
    ]


def _tensors(outputs: Any) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]


def penalty_of(step: TrainStep, trained: Named) -> torch.Tensor | None:
    """What training adds to the loss."""
    return None if step.penalty is None else _scalar(step.penalty(trained), "the penalty")


def scalar_loss(step: TrainStep, outputs: Any, targets: Sequence[Any]) -> torch.Tensor:
    return _scalar(step.loss(outputs, *targets), "the loss")


def _scalar(value: Any, name: str) -> torch.Tensor:
    if _tensor(value, name).numel() != 1:
        raise CaptureError(
            f"{name} is not a scalar: {tuple(value.shape)}",
            why="a step minimizes one number",
            remedy='reduce it, for example with .mean() or reduction="mean"',
        )
    return _widened(value.reshape(()))


def _tensor(value: Any, name: str) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise CaptureError(
            f"{name} is a {type(value).__name__}, not a tensor",
            why="it is computed anew for every batch",
            remedy="leave out .item() and float(), and return the tensor",
        )
    return value


def _widened(x: torch.Tensor) -> torch.Tensor:
    """What leaves a program is not a half."""
    return x.float() if x.dtype in HALVES else x


def _no_gradient(tracing: Tracing) -> UnsupportableError:
    return UnsupportableError(
        "the loss does not depend on any trainable parameter",
        where=tracing.origins.current,
        why="there is no path of differentiable operations from the loss to a parameter",
        remedy="look for .detach(), torch.no_grad() or integer arithmetic between them",
    )


def _metrics(step: TrainStep, outputs: Any, targets: Sequence[torch.Tensor]) -> list[TracedOutput]:
    chosen = step.metrics if step.metrics is not None else _default_metrics(outputs, targets)
    values = {k: _tensor(m(outputs, *targets), f"metric {k}") for k, m in chosen.items()}
    return [TracedOutput(name, "metric", value.float()) for name, value in values.items()]


def _training_metrics(
    step: TrainStep, outputs: Any, targets: Sequence[torch.Tensor]
) -> list[TracedOutput]:
    """The metrics that are numbers, where they are asked for; a loss may overwrite the outputs."""
    if not step.training_metrics:
        return []
    with torch.no_grad():
        detached = pytree.tree_map_only(torch.Tensor, torch.Tensor.detach, outputs)
        return [m for m in _metrics(step, detached, targets) if m.tensor.dim() == 0]


def _default_metrics(
    outputs: Any, targets: Sequence[torch.Tensor]
) -> dict[str, Callable[..., torch.Tensor]]:
    """Accuracy, where one output [B, C] meets one integer class label per row."""
    if (
        isinstance(outputs, torch.Tensor)
        and outputs.dim() == 2
        and outputs.is_floating_point()
        and len(targets) == 1
        and targets[0].dim() == 1
        and targets[0].dtype in (torch.int64, torch.int32)
    ):
        return {"accuracy": accuracy}
    return {}
