"""`hearth.compile`: a training step in, a bundle out.

capture   steps/programs.py     four programs, as PyTorch computes them
lower     driver/programs.py    into our graphs; gradients and update become one
schedule  schedule/             kernels, buffers, slots
assemble  driver/assemble.py    one list of each for all programs
generate  codegen/              WebAssembly and WGSL
describe  driver/describe.py    the manifest
record    driver/golden.py      the step that devices must reproduce
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn

from hearth.bundle import manifest as m
from hearth.bundle.safetensors import encode_safetensors
from hearth.bundle.weights import encode_weights, weights_of
from hearth.driver.assemble import Assembly, assemble
from hearth.driver.compiled import Compiled
from hearth.driver.describe import describe
from hearth.driver.fit_memory import Budget, fit
from hearth.driver.generate import (
    BACKENDS,
    WASM_VARIANTS,
    Generated,
    WasmVariants,
    check_accuracy,
    check_backends,
    generate,
)
from hearth.driver.golden import golden_step
from hearth.driver.graph_parts import ProgramGraph
from hearth.driver.inspection import graph_of_inspection
from hearth.driver.layout import StateLayout, layout_of_functions, layout_of_step
from hearth.driver.programs import counting_runs, graph_of_function, graphs_of_step
from hearth.errors import InvalidInputError
from hearth.ir import build
from hearth.ir.dtype import DEVICE_DTYPE
from hearth.schedule.allocate import TYPICAL_BATCH
from hearth.schedule.schedule import Limit, schedule
from hearth.steps.function import Batched, Function, capture_function
from hearth.steps.inspection import capture_inspection
from hearth.steps.optimizer_state import describe_optimizer
from hearth.steps.programs import StepPrograms, capture_programs
from hearth.steps.schedule import learning_rates
from hearth.steps.taps import Taps, as_taps
from hearth.steps.train_step import TrainStep

SCHEDULE_FILE = "schedule.safetensors"
Tensors = torch.Tensor | Sequence[torch.Tensor]


def compile_step(
    step: TrainStep,
    inputs: Tensors,
    targets: Tensors,
    backends: Sequence[str] = BACKENDS,
    accuracy: m.Accuracy = "fast",
    memory_bytes: int | None = None,
    memory_batch: int = TYPICAL_BATCH,
    inspect: Taps | Sequence[str] | bool = False,
    explain: Mapping[str, Function] | None = None,
) -> Compiled:
    """Compile a training step into a bundle.

    Args:
        step: model, loss and optimizer.
        inputs: example tensors, one or a tuple; dimension 0 is the batch.  Only their shapes and
            dtypes matter.
        targets: likewise, what the loss gets after the outputs.
        backends: "webgpu", "wasm" or both.
        accuracy: "fast" lets WebAssembly convolutions err up to 1e-5 of a tensor's largest element;
            "strict" keeps everything within 1e-6 beside PyTorch float32's own error, at up to three
            times the time.  WebGPU code is the same under both.
        memory_bytes: the step fits into so many bytes on each backend (`Compiled.memory_bytes`),
            because values are computed again for the gradient instead of kept; the results stay
            the same bit for bit.  By default everything is kept.
        memory_batch: the batch size for which it must fit.
        inspect: adds the program `inspect`, which looks into a step: True, or the modules whose
            outputs to look at, or `Taps`.  The other programs stay as they are.
        explain: more programs by name, which read the weights that are being trained: those of
            `hearth.explain`, or other functions that call the model.

    Raises:
        CaptureError, UnsupportableError: the step cannot be traced, with the line of the model.
        UnsupportedOpError: every operator without a lowering, with its line.
        OutOfMemoryError: `memory_bytes` cannot be reached; says what can, and for which batch.

    >>> bundle = hearth.compile(step, torch.zeros(1, 784), torch.zeros(1, dtype=torch.long))
    >>> bundle.save("dist/")  # doctest: +SKIP
    """
    check_backends(backends)
    check_accuracy(accuracy)
    budget = None if memory_bytes is None else Budget(memory_bytes, memory_batch)
    programs = capture_programs(step, inputs, targets)
    graphs = graphs_of_step(programs, step.accumulate)
    if inspect is not False:
        graphs["inspect"] = _inspecting(step, programs, inputs, targets, as_taps(inspect), graphs)
    graphs |= _reading(step, graphs, explain or {})
    layout = layout_of_step(step, programs.optimizer.groups, _constants(graphs))
    name = type(step.model).__name__
    code = fit(lambda limit: _code(name, graphs, layout, backends, accuracy, limit), budget)
    return _bundle_of_step(step, graphs, layout, code)


def _inspecting(
    step: TrainStep,
    programs: StepPrograms,
    inputs: Tensors,
    targets: Tensors,
    taps: Taps,
    graphs: Mapping[str, ProgramGraph],
) -> ProgramGraph:
    inspection = capture_inspection(step, programs.optimizer.groups, inputs, targets, taps)
    graph = graph_of_inspection(inspection, programs.optimizer)
    # Augmented labels index nothing, but are the same labels.
    return replace(graph, ranges={**graphs["evaluate"].ranges, **graph.ranges})


def _reading(
    step: TrainStep, graphs: Mapping[str, ProgramGraph], functions: Mapping[str, Function]
) -> dict[str, ProgramGraph]:
    """Functions as programs on the state of the step."""
    for name in functions:
        if name in graphs or not name.isidentifier():
            raise InvalidInputError(
                f"a program of a step cannot be called {name!r}",
                why=f"it is no identifier, or one of {', '.join(graphs)}",
            )
    return {
        name: graph_of_function(capture_function(f.function, f.examples, f.batched, step.model))
        for name, f in functions.items()
    }


def _bundle_of_step(
    step: TrainStep, graphs: Mapping[str, ProgramGraph], layout: StateLayout, code: _Code
) -> Compiled:
    """With what belongs to a training step alone: optimizer, learning rates, a recorded step."""
    manifest, files = code.manifest, {**code.generated.files, **_state_files(layout)}
    trained = [o.name for o in graphs["gradients"].outputs if o.role == "gradient"]
    inputs, accuracy = manifest.programs["train"].inputs, manifest.accuracy or "strict"
    golden = golden_step(step, inputs, trained, accuracy)
    if golden:
        files[golden[0].file] = golden[1]
    if step.schedule:
        rates = learning_rates(step.schedule)
        files[SCHEDULE_FILE] = encode_safetensors({"rates": rates})
    names = {parameter: name for name, parameter in step.parameters.items()}
    described = replace(
        manifest,
        optimizer=m.Optimizer.from_json(describe_optimizer(step.optimizer, names)),
        golden=golden[0] if golden else None,
        schedule=m.Schedule(SCHEDULE_FILE, step.schedule.interval) if step.schedule else None,
        precision=cast("m.Half", step.precision) if step.precision != "float32" else None,
        loss_scaling=_loss_scaling(step),
    )
    return Compiled(described, files, tuple(code.assembly.kernels), graphs, step)


def compile_function(
    function: Callable[..., Any],
    examples: Tensors,
    *,
    batched: Batched = True,
    model: nn.Module | None = None,
    count_runs: bool = False,
    backends: Sequence[str] = BACKENDS,
    accuracy: m.Accuracy = "fast",
) -> Compiled:
    """Compile any PyTorch function of tensors into a bundle with one program, `run`.

    `batched` says, for all or for each example, whether dimension 0 is the batch; a tuple names
    the dimensions that are.  Outputs are named output/KEY where the function returns a dict or a
    NamedTuple, else output/0, ....  The other arguments are those of `compile_functions`.

    >>> bundle = hearth.compile_function(torch.cdist, (points, centres), batched=(True, False))
    >>> bundle.save("dist/")  # doctest: +SKIP
    """
    given = Function(function, examples, batched)
    return compile_functions(
        {"run": given}, model=model, count_runs=count_runs, backends=backends, accuracy=accuracy,
        name=given.name,
    )  # fmt: skip


def compile_functions(
    functions: Mapping[str, Function],
    *,
    model: nn.Module | None = None,
    count_runs: bool = False,
    backends: Sequence[str] = BACKENDS,
    accuracy: m.Accuracy = "fast",
    name: str = "functions",
) -> Compiled:
    """Compile several functions into one bundle, a program each.

    Args:
        functions: by program name, each with its own examples.
        model: a module that functions read.  Its parameters and buffers become state of the bundle
            under their state_dict keys, so that weights trained elsewhere can be loaded.  It is
            taken in the mode, train or eval, in which it is.
        count_runs: each run of a program that draws random numbers counts as a step, so that the
            next run draws others; else the numbers depend on the seed alone.
        backends: "webgpu", "wasm" or both.
        accuracy: as for `compile`.
        name: of the bundle, for people.
    """
    check_backends(backends)
    check_accuracy(accuracy)
    model = model or next((f.model for f in functions.values() if f.model is not None), None)
    graphs = {}
    for program, f in functions.items():
        graph = graph_of_function(capture_function(f.function, f.examples, f.batched, model))
        graphs[program] = counting_runs(graph) if count_runs and graph.streams else graph
    return link_functions(name, graphs, backends, model=model, accuracy=accuracy)


def link_functions(
    name: str,
    graphs: Mapping[str, ProgramGraph],
    backends: Sequence[str] = BACKENDS,
    wasm_variants: WasmVariants = WASM_VARIANTS,
    model: nn.Module | None = None,
    accuracy: m.Accuracy = "fast",
) -> Compiled:
    """One bundle of several programs; `model` is whose state they read."""
    check_backends(backends)
    check_accuracy(accuracy)
    layout = layout_of_functions(_constants(graphs), model)
    code = _code(name, graphs, layout, backends, accuracy, wasm_variants=wasm_variants)
    files = {**code.generated.files, **_state_files(layout)}
    return Compiled(code.manifest, files, tuple(code.assembly.kernels), graphs, None)


def _constants(graphs: Mapping[str, ProgramGraph]) -> dict[str, Any]:
    return {k: v for program in graphs.values() for k, v in program.graph.constants.items()}


@dataclass(frozen=True)
class _Code:
    assembly: Assembly
    generated: Generated
    manifest: m.Manifest


def _code(
    name: str,
    graphs: Mapping[str, ProgramGraph],
    layout: StateLayout,
    backends: Sequence[str],
    accuracy: m.Accuracy,
    limit: Limit | None = None,
    wasm_variants: WasmVariants = WASM_VARIANTS,
) -> _Code:
    assembly = _schedule(graphs, layout, limit)
    generated = generate(assembly, backends, accuracy, wasm_variants)
    return _Code(assembly, generated, describe(name, layout, assembly, generated, graphs))


def _schedule(
    graphs: Mapping[str, ProgramGraph], layout: StateLayout, limit: Limit | None = None
) -> Assembly:
    return assemble(
        {
            name: schedule(
                program.graph,
                [
                    build.input_node(i.name, i.role, i.value.shape, DEVICE_DTYPE[i.value.dtype])
                    for i in program.inputs
                ],
                layout.places,
                limit,
            )
            for name, program in graphs.items()
        }
    )


def _loss_scaling(step: TrainStep) -> m.LossScaling | None:
    if step.scaling is None:
        return None
    s = step.scaling
    return m.LossScaling(s.growth_factor, s.backoff_factor, s.growth_interval)


def _state_files(layout: StateLayout) -> dict[str, bytes]:
    """weights.safetensors, and constants.safetensors where something else is not zero at start."""
    weights = weights_of(layout.entries)
    files = {}
    if weights:
        arrays = {w.name: layout.initial[w.name] for w in weights}
        files["weights.safetensors"] = encode_weights(weights, arrays)
    others = {
        name: array
        for name, array in layout.initial.items()
        if name not in {w.name for w in weights} and array.any()
    }
    if others:
        files["constants.safetensors"] = encode_safetensors(others)
    return files
