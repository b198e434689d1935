"""The state region: where every parameter, buffer and optimizer state of a bundle lies.

The parameters of an optimizer group form one block, and so do their gradients and each of their
optimizer states, all with the same inner layout: the update is one kernel over flat vectors, while
every parameter can still be bound on its own.  A group of more than 128 MiB forms several, so that
every GPU can bind them.  What is saved of a run lies before its gradients and constants.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hearth.bundle import manifest
from hearth.capture.read_fx import dtype_name
from hearth.driver.accumulation import accumulated
from hearth.ir.dtype import ELEMENT_BYTES, align
from hearth.schedule.schedule import StatePlace
from hearth.steps.examples import SEED, STEP
from hearth.steps.mixed import GROWTH_TRACKER, LOSS_SCALE, UPDATES, LossScaling
from hearth.steps.optimizer import Updated, UpdatedGroup
from hearth.steps.optimizer_state import from_torch_optimizer
from hearth.steps.train_step import StateEntry, TrainStep, state_entries

Array = NDArray[Any]


@dataclass
class StateLayout:
    """Entries for the manifest, places for the schedule, and values that do not start as zeros."""

    entries: list[manifest.State] = field(default_factory=list)
    places: dict[str, StatePlace] = field(default_factory=dict)
    initial: dict[str, Array] = field(default_factory=dict)
    size_bytes: int = 0

    def reserve(self, name: str, elements: int) -> StatePlace:
        """The next free memory, named for the schedule."""
        place = StatePlace(self.size_bytes, elements * ELEMENT_BYTES)
        size = max(place.size_bytes, 1)  # an empty entry has an address of its own, too
        self.size_bytes += align(size)
        self.places[name] = place
        return place

    def add(self, name: str, role: Any, dtype: Any, shape: Iterable[int], **extra: Any) -> None:
        """An entry of its own, unless its place is already known."""
        shape = tuple(shape)
        place = self.places.get(name) or self.reserve(name, int(np.prod(shape, dtype=np.int64)))
        self.entries.append(manifest.State(name, role, dtype, shape, place.offset, **extra))

    def add_counters(self) -> None:
        self.add(SEED, "seed", "uint32", (2,))
        self.add(STEP, "step", "int32", ())

    def add_constants(self, constants: Mapping[str, Array]) -> None:
        for name, array in constants.items():
            stored = array.astype(np.float32) if array.dtype.kind == "f" else array
            self.add(name, "constant", stored.dtype.name, stored.shape)
            self.initial[name] = stored


def layout_of_step(
    step: TrainStep, groups: tuple[UpdatedGroup, ...], constants: Mapping[str, Array]
) -> StateLayout:
    """The whole state of a training step."""
    layout = StateLayout()
    for group in groups:
        for tensor in group.tensors if group.is_flat else ():
            _reserve_vector(layout, step, tensor)
    _add_entries(layout, state_entries(step.model, step.trainable))
    for group in groups:
        _add_optimizer(layout, step, group)
    layout.add_counters()
    if step.scaling is not None:
        _add_scaler(layout, step.scaling)
    for group in groups:
        _add_workspaces(layout, step, group)
    layout.add_constants(constants)
    _keep_progress(layout, step)
    return layout


def layout_of_functions(
    constants: Mapping[str, Array], model: nn.Module | None = None
) -> StateLayout:
    """Functions have the state of the model that they read, a random generator, and tables."""
    layout = StateLayout()
    if model is not None:
        _add_entries(layout, state_entries(model))
    layout.add_counters()
    layout.add_constants(constants)
    return layout


def _reserve_vector(layout: StateLayout, step: TrainStep, vector: Updated) -> None:
    """The blocks of a flat vector; tensors of their own find their place when they are added."""
    shared = [key for key, shape in vector.states.items() if shape == ()]
    for key in ("parameter", *(key for key in vector.states if key not in shared)):
        _reserve_block(layout, step, vector, key)
    for key in shared:
        place = layout.reserve(f"{key}/{vector.name}", 1)
        for name in vector.members:
            layout.places[f"{key}/{name}"] = place


def _reserve_block(layout: StateLayout, step: TrainStep, vector: Updated, key: str) -> None:
    block = layout.reserve(f"{key}/{vector.name}", vector.layout.length)
    for name, offset in zip(vector.members, vector.layout.offsets, strict=True):
        size = step.parameters[name].numel()
        place = StatePlace(block.offset + offset * ELEMENT_BYTES, size * ELEMENT_BYTES)
        layout.places[name if key == "parameter" else f"{key}/{name}"] = place


def _add_entries(layout: StateLayout, entries: Iterable[StateEntry]) -> None:
    for entry in entries:
        if entry.tied_to is not None:
            layout.places[entry.name] = layout.places[entry.tied_to]
        dtype = dtype_name(entry.tensor.dtype)
        extra = (
            {"trainable": entry.trainable}
            if entry.role == "parameter"
            else {"persistent": entry.persistent}
        )
        layout.add(entry.name, entry.role, dtype, entry.tensor.shape, **extra)
        layout.initial[entry.name] = entry.tensor.detach().contiguous().numpy().copy()


def _add_optimizer(layout: StateLayout, step: TrainStep, group: UpdatedGroup) -> None:
    for name, states in _states_by_parameter(step, group):
        for key, shape in states.items():
            layout.add(
                f"{key}/{name}", "optimizer", "float32", shape, key=key, parameter=name
            )  # fmt: skip


def _add_workspaces(layout: StateLayout, step: TrainStep, group: UpdatedGroup) -> None:
    """The gradients of flat vectors, and the sums of micro-batches."""
    for tensor in group.tensors:
        gradient = f"gradient/{tensor.name}"
        packed = [gradient] if group.is_flat else []
        if group.is_flat:
            _reserve_block(layout, step, tensor, "gradient")
        for name in [*packed, *([accumulated(gradient)] if step.accumulate else [])]:
            layout.add(name, "workspace", "float32", tensor.shape)


def _states_by_parameter(
    step: TrainStep, group: UpdatedGroup
) -> Iterator[tuple[str, Mapping[str, tuple[int, ...]]]]:
    for tensor in group.tensors:
        for name in tensor.members:
            own = tuple(step.parameters[name].shape)
            whole = {key: own if shape else () for key, shape in tensor.states.items()}
            yield name, whole if group.is_flat else tensor.states


def _add_scaler(layout: StateLayout, scaling: LossScaling) -> None:
    layout.add(LOSS_SCALE, "scaler", "float32", ())
    layout.add(GROWTH_TRACKER, "scaler", "int32", ())
    layout.add(UPDATES, "scaler", "int32", ())
    layout.initial[LOSS_SCALE] = np.array(scaling.scale, np.float32)
    layout.initial[GROWTH_TRACKER] = np.array(scaling.growth_tracker, np.int32)


def _keep_progress(layout: StateLayout, step: TrainStep) -> None:
    """An optimizer that has stepped already goes on where it is."""
    names = {parameter: name for name, parameter in step.parameters.items()}
    tensors, steps = from_torch_optimizer(step.optimizer, names)
    known = {entry.name for entry in layout.entries}
    for name, tensor in tensors.items():
        if name in known:
            layout.initial[name] = tensor.to(torch.float32).contiguous().numpy().copy()
    if steps:
        layout.initial[STEP] = np.array(steps, np.int32)
        if UPDATES in known:
            layout.initial[UPDATES] = layout.initial[STEP]
