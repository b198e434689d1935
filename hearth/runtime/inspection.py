"""What the program `inspect` found, by module and parameter.

The numbers are the program's (spec/manifest.md names its outputs); here they only get their places.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from hearth.bundle.manifest import Manifest
from hearth.errors import InvalidInputError
from hearth.runtime.runner import Array, Arrays

PROGRAM = "inspect"
KINDS = ("activation", "activation_gradient", "parameter", "buffer", "gradient", "update")
STATISTICS = ("mean", "std", "min", "max", "zeros", "nan", "inf", "norm", "limit")
_ROWS = {"parameter": "parameters", "gradient": "gradients", "update": "updates"}
SATURATED_SHARE = 0.95  # of a unit's outputs beyond the ends of its nonlinearity


@dataclass(frozen=True, slots=True)
class Summary:
    """A tensor in numbers: `zeros` is a share, `nan` and `inf` are counts, the rest is of what is
    finite.

    `histogram` counts it in equal bins from -limit to limit, a power of two above every magnitude.
    """

    mean: float
    std: float
    min: float
    max: float
    zeros: float
    nan: float
    inf: float
    norm: float
    limit: float
    histogram: Array

    @property
    def is_finite(self) -> bool:
        return self.nan == 0 and self.inf == 0


@dataclass(frozen=True, slots=True)
class Layer:
    """What one call of a module returned, and the gradient that came back to it.

    `silent` is the share of each unit's outputs that are zero, of a ReLU; `saturated` the share
    near the ends, of a tanh or sigmoid.
    """

    name: str
    activation: Summary
    gradient: Summary | None = None
    silent: Array | None = None
    saturated: Array | None = None


@dataclass(frozen=True, slots=True)
class ParameterView:
    """A parameter, and what one step on the batch would do to it; `ratio` is |update| / |value|."""

    name: str
    value: Summary
    gradient: Summary | None = None
    update: Summary | None = None
    ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """Units of a layer that are of no use: `kind` is "silent" or "saturated"."""

    kind: str
    layer: str
    units: tuple[int, ...]
    of: int

    def __str__(self) -> str:
        what = "never fire" if self.kind == "silent" else "are saturated"
        return f"{self.layer}: {len(self.units)} of {self.of} units {what}"


@dataclass(frozen=True, slots=True)
class NonFinite:
    """The first tensor with elements that are not finite; `kind` is one of `KINDS`, or "loss"."""

    kind: str
    name: str

    def __str__(self) -> str:
        what = self.kind.replace("_", " ")
        return what if self.kind == "loss" else f"the {what} of {self.name}"


@dataclass(frozen=True, slots=True)
class Inspection:
    """One batch seen from inside; layers are in the order of the forward pass."""

    loss: float
    layers: tuple[Layer, ...]
    parameters: tuple[ParameterView, ...]
    buffers: tuple[ParameterView, ...]
    values: Mapping[str, Array] = field(default_factory=dict)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return useless_units(self)


class Inspectable(Protocol):
    """A runner that `inspect_with` can use."""

    manifest: Manifest

    def run(
        self, program: str, inputs: Arrays, targets: Arrays, outputs: Collection[str] | None
    ) -> dict[str, Array]: ...


def inspect_with(
    runner: Inspectable, inputs: Arrays, targets: Arrays, values: Sequence[str] = ()
) -> Inspection:
    """Looks into one step on a batch, without doing it; `values` are read whole.

    Raises `InvalidInputError` where the bundle was compiled without the program, or a name is none
    of `value_names`.
    """
    if PROGRAM not in runner.manifest.programs:
        raise InvalidInputError(
            "this bundle cannot be looked into",
            why=f"it was compiled without the program {PROGRAM!r}",
            remedy="compile it with inspect=True",
        )
    known = value_names(runner.manifest)
    for name in values:
        if name not in known:
            raise InvalidInputError(
                f"there are no values {name!r}", remedy=f"there are {', '.join(known) or 'none'}"
            )
    outputs = runner.manifest.program(PROGRAM).outputs
    wanted = {o.name for o in outputs if not o.name.startswith("values/")}
    wanted |= {f"values/{name}" for name in values}
    return inspection_of(runner.manifest, runner.run(PROGRAM, inputs, targets, wanted))


def value_names(manifest: Manifest) -> list[str]:
    """What can be asked for whole: KIND/NAME, as "activation/features.0"."""
    outputs = manifest.program(PROGRAM).outputs
    prefix = "values/"
    names = [o.name.removeprefix(prefix) for o in outputs if o.name.startswith(prefix)]
    return [name for name in names if not name.startswith("updates/")]


def inspection_of(manifest: Manifest, found: Mapping[str, Array]) -> Inspection:
    """The outputs of the program `inspect` by module and parameter."""
    summaries = {kind: _summaries(manifest, found, kind) for kind in KINDS}
    layers = tuple(
        Layer(
            name, activation, summaries["activation_gradient"].get(name),
            found.get(f"silent/{name}"), found.get(f"saturated/{name}"),
        )
        for name, activation in summaries["activation"].items()
    )  # fmt: skip
    ratios = {
        name: float(ratio)
        for k, names in enumerate(group_rows(manifest))
        if names
        for name, ratio in zip(names, found[f"ratios/{k}"], strict=True)
    }
    order = [s.name for s in manifest.state if s.name in summaries["parameter"]]
    parameters = tuple(
        ParameterView(
            name, summaries["parameter"][name], summaries["gradient"].get(name),
            summaries["update"].get(name), ratios.get(name),
        )
        for name in order
    )  # fmt: skip
    buffers = tuple(ParameterView(name, view) for name, view in summaries["buffer"].items())
    values = {
        name.removeprefix("values/"): array
        for name, array in found.items()
        if name.startswith("values/")
    }
    return Inspection(float(found["loss"]), layers, parameters, buffers, values)


def group_rows(manifest: Manifest) -> list[list[str]]:
    """The parameters that have gradients, by group: the rows of what is told of a group."""
    trained = {o.name for o in manifest.program("gradients").outputs if o.role == "gradient"}
    groups = manifest.optimizer.groups if manifest.optimizer else ()
    return [[name for name in group.parameters if name in trained] for group in groups]


def useless_units(*inspections: Inspection) -> tuple[Finding, ...]:
    """Units that were silent or saturated in every one of several batches."""
    if not inspections:
        raise InvalidInputError("there is no inspection to look at")
    return tuple(
        Finding(kind, layers[0].name, tuple(int(unit) for unit in units), len(shares[0]))
        for layers in zip(*(i.layers for i in inspections), strict=True)
        for kind, least in (("silent", 1.0), ("saturated", SATURATED_SHARE))
        if (shares := [s for layer in layers if (s := getattr(layer, kind)) is not None])
        and len(units := np.flatnonzero(np.min(shares, 0) >= least))
    )


def first_nonfinite(inspection: Inspection) -> NonFinite | None:
    """Where values that are not finite came from: the first in the order of computation.

    That order is parameters, buffers and module outputs forwards, the loss, gradients backwards.
    A layer with a parameter that is not finite cannot be right, so parameters come first.
    """
    return next(_nonfinite(inspection), None)


def _nonfinite(seen: Inspection) -> Iterator[NonFinite]:
    for kind, views in (("parameter", seen.parameters), ("buffer", seen.buffers)):
        yield from (NonFinite(kind, v.name) for v in views if not v.value.is_finite)
    for layer in seen.layers:
        if not layer.activation.is_finite:
            yield NonFinite("activation", layer.name)
    if not math.isfinite(seen.loss):
        yield NonFinite("loss", "loss")
    for layer in reversed(seen.layers):
        if layer.gradient is not None and not layer.gradient.is_finite:
            yield NonFinite("activation_gradient", layer.name)
    for kind in ("gradient", "update"):
        for view in reversed(seen.parameters):
            summary: Summary | None = getattr(view, kind)
            if summary is not None and not summary.is_finite:
                yield NonFinite(kind, view.name)


def _summaries(manifest: Manifest, found: Mapping[str, Array], kind: str) -> dict[str, Summary]:
    prefix = f"statistics/{kind}/"
    alone = {
        name.removeprefix(prefix): _summary(row, found[f"histogram/{kind}/{name[len(prefix) :]}"])
        for name, row in found.items()
        if name.startswith(prefix)
    }
    if kind not in _ROWS:
        return alone
    rows = {
        name: _summary(found[f"statistics/{_ROWS[kind]}/{k}"][i],
                       found[f"histogram/{_ROWS[kind]}/{k}"][i])
        for k, names in enumerate(group_rows(manifest))
        for i, name in enumerate(names)
    }  # fmt: skip
    return alone | rows


def _summary(row: Array, histogram: Array) -> Summary:
    numbers = dict(zip(STATISTICS, map(float, row), strict=True))
    return Summary(**numbers, histogram=histogram)
