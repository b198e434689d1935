"""`hearth.verify`: a bundle against PyTorch float64, with PyTorch float32's own error beside it.

Each random case perturbs the weights, draws a batch, and compares the outputs, the loss and every
gradient, then the weights after ten training steps.  An error is relative to the tensor's largest
element.  The bound for every tensor is

    error(ours) <= 4 · error(PyTorch float32) + 1e-6

and, on top, 1e-5 for outputs and losses and 1e-4 for gradients.  Where the step is not
differentiable (an activation at exactly its kink) two correct computations may fall on different
sides; a case is judged there by how much PyTorch float64 itself moves when weights and inputs move
by float32 rounding, and such cases are counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from hearth.bundle.manifest import Manifest
from hearth.bundle.read import read_bundle
from hearth.driver.compiled import Compiled, read_build
from hearth.driver.oracle import Oracle
from hearth.driver.runners import open_runner
from hearth.driver.samples import random_batch
from hearth.errors import InvalidInputError
from hearth.runtime.runner import Runner
from hearth.steps.train_step import TrainStep

Array = NDArray[Any]
Arrays = dict[str, Array]

BATCH_SIZES: Final = (1, 2, 3, 4, 5, 8)
TRAIN_STEPS: Final = 10
PROMISES: Final = {"output": 1e-5, "loss": 1e-5, "gradient": 1e-4, "weight": math.inf}
FLOAT32_FACTOR: Final = 4.0
FLOAT32_SLACK: Final = 1e-6
ROUNDING: Final = 2.0**-23
KINK_DRAWS: Final = 6


@dataclass(frozen=True)
class Deviation:
    """The worst element of one tensor in one case."""

    kind: str
    name: str
    case: int
    index: tuple[int, ...]
    ours: float
    expected: float
    error: float
    float32_error: float
    allowed: float
    at_kink: bool = False

    @property
    def ok(self) -> bool:
        return self.error <= self.allowed


@dataclass
class VerifyReport:
    """What was compared and how far it was off; `str()` is a table with the worst of each kind."""

    runner: str
    device: str
    cases: int
    compared: dict[str, int] = field(default_factory=dict)
    worst: dict[str, Deviation] = field(default_factory=dict)
    failures: list[Deviation] = field(default_factory=list)
    kinks: int = 0

    @property
    def ok(self) -> bool:
        return not self.failures

    def add(self, deviation: Deviation) -> None:
        kind = deviation.kind
        self.compared[kind] = self.compared.get(kind, 0) + 1
        self.kinks += deviation.at_kink
        if not deviation.ok:
            self.failures.append(deviation)
        known = self.worst.get(kind)
        if known is None or deviation.error > known.error or math.isnan(deviation.error):
            self.worst[kind] = deviation

    def __str__(self) -> str:
        lines = [
            f"{self.runner} ({self.device}), {self.cases} random cases against PyTorch float64",
            f"{'what':<9}{'compared':>9}  {'worst':>8}  {'PyTorch f32':>11}  {'allowed':>8}  where",
        ]
        for kind, d in self.worst.items():
            place = f"{d.name}{list(d.index)} = {d.ours:.8g}, expected {d.expected:.8g}"
            lines.append(
                f"{kind:<9}{self.compared[kind]:>9}  {d.error:>8.1e}  {d.float32_error:>11.1e}"
                f"  {d.allowed:>8.1e}  case {d.case}: {place}"
            )
        if self.kinks:
            lines.append(f"{self.kinks} tensors were judged at a point without a derivative")
        lines += [
            f"FAILED case {d.case}: {d.kind} {d.name}{list(d.index)} = {d.ours!r}, "
            f"expected {d.expected!r} (error {d.error:.2e} > {d.allowed:.2e})"
            for d in self.failures[:20]
        ]
        lines.append("ok" if self.ok else f"{len(self.failures)} tensors FAILED")
        return "\n".join(lines)


def verify(
    bundle: str | Path | Compiled,
    runner: str = "wasm",
    cases: int = 100,
    *,
    step: TrainStep | None = None,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _: None,
    **options: Any,
) -> VerifyReport:
    """Compare a bundle on a runner with PyTorch.

    Args:
        bundle: a folder that `Compiled.save` wrote, or the compiled step itself.
        runner: "reference", "wasm", "webgpu", "chromium:wasm" or "chromium:webgpu".
        step: the training step, where the bundle was compiled from a model that cannot be pickled.
        progress: called with the number of finished cases.
        options: for the runner, such as `threads`.
    """
    if cases < 1:
        raise InvalidInputError(f"cases is {cases}", remedy="ask for at least one case")
    with _folder(bundle, runtime=runner.startswith("chromium")) as path:
        opened = open_runner(path, runner, **options)
        try:
            step = step or _step_of(bundle, path)
            report = VerifyReport(runner, opened.device, cases)
            verifier = _Verifier(step, opened, read_bundle(path).manifest, report)
            for case in range(cases):
                verifier.check_case(case, np.random.default_rng((seed, case)))
                progress(case + 1)
        finally:
            opened.close()
    return report


class _Verifier:
    def __init__(
        self, step: TrainStep, runner: Runner, manifest: Manifest, report: VerifyReport
    ) -> None:
        self.step, self.runner, self.report = step, runner, report
        self.program = manifest.programs["train"]
        self.weights = runner.export_weights()
        self.state = runner.export_state()
        self.floats = {k for k, v in self.weights.items() if v.dtype.kind == "f"}
        buffers = {s.name for s in manifest.state if s.role == "buffer"}
        self.parameters = self.floats - buffers

    def check_case(self, case: int, rng: np.random.Generator) -> None:
        weights = self._perturbed(self.weights, rng, 0.1)
        batch = BATCH_SIZES[case % len(BATCH_SIZES)]
        data = [random_batch(self.program.inputs, batch, rng) for _ in range(TRAIN_STEPS)]
        self.runner.load_state({**self.state, **weights})
        self.runner.seed = case
        ours = self._ours_once(data[0])
        ours_trained = self._ours_trained(data)
        run = _Case(self.step, case, weights, data)
        for kind, results in (("once", ours), ("trained", ours_trained)):
            exact, rounded = run.exact(kind), run.rounded(kind)
            for key, value in results.items():
                spread = lambda key=key, kind=kind: self._spread(run, kind, key)  # noqa: E731
                self.report.add(judge(key, case, value, exact[key], rounded[key], spread))

    def _ours_once(self, batch: Any) -> dict[tuple[str, str], Array]:
        result = self.runner.gradients(*batch)
        return _named(result.loss, result.outputs, result.gradients)

    def _ours_trained(self, data: list[Any]) -> dict[tuple[str, str], Array]:
        for batch in data:
            self.runner.train_batch(*batch)
        after = self.runner.export_weights()
        return {("weight", name): after[name] for name in after}

    def _perturbed(self, weights: Arrays, rng: np.random.Generator, scale: float) -> Arrays:
        """Parameters moved by a fraction of their own spread; buffers stay."""
        moved = dict(weights)
        for name in sorted(self.parameters):
            w = weights[name]
            amount = scale * max(float(w.std()), 0.05)
            moved[name] = (w + amount * rng.normal(size=w.shape)).astype(np.float32)
        return moved

    def _spread(self, run: _Case, kind: str, key: tuple[str, str]) -> float:
        """How much PyTorch float64 moves when weights and inputs move by float32 rounding."""
        exact = np.asarray(run.exact(kind)[key], np.float64)
        scale = _scale(exact)
        moved = (run.moved(kind, draw)[key] for draw in range(KINK_DRAWS))
        return max(float(np.abs(m - exact).max()) / scale for m in moved)


class _Case:
    """PyTorch's results for one case, computed when first asked for."""

    def __init__(self, step: TrainStep, case: int, weights: Arrays, data: list[Any]) -> None:
        self.step, self.case, self.weights, self.data = step, case, weights, data
        self.known: dict[Any, dict[tuple[str, str], Array]] = {}

    def exact(self, kind: str) -> Mapping[tuple[str, str], Array]:
        return self._results(kind, torch.float64, None)

    def rounded(self, kind: str) -> Mapping[tuple[str, str], Array]:
        return self._results(kind, torch.float32, None)

    def moved(self, kind: str, draw: int) -> Mapping[tuple[str, str], Array]:
        return self._results(kind, torch.float64, draw)

    def _results(
        self, kind: str, dtype: torch.dtype, draw: int | None
    ) -> Mapping[tuple[str, str], Array]:
        key = (kind, dtype, draw)
        if key not in self.known:
            self.known[key] = self._compute(kind, dtype, draw)
        return self.known[key]

    def _compute(
        self, kind: str, dtype: torch.dtype, draw: int | None
    ) -> dict[tuple[str, str], Array]:
        rng = np.random.default_rng((self.case, draw)) if draw is not None else None
        oracle = Oracle(self.step, dtype)
        oracle.load_weights({k: _rounded(v, rng) for k, v in self.weights.items()})
        data = [
            (tuple(_rounded(x, rng) for x in inputs), tuple(_rounded(y, rng) for y in targets))
            for inputs, targets in self.data
        ]
        if kind == "once":
            inputs, targets = data[0]
            result = oracle.gradients(inputs, targets, self.case)
            trained = {n: result.gradients[n] for n in self.step.trainable}
            return _named(result.loss, result.outputs, trained)
        for inputs, targets in data:
            oracle.train(inputs, targets, self.case)
        return {("weight", name): value for name, value in oracle.weights.items()}


def judge(
    key: tuple[str, str],
    case: int,
    ours: Array,
    exact: Array,
    rounded: Array,
    spread: Callable[[], float],
) -> Deviation:
    """Compare one tensor; `spread` is only computed where the plain bound fails."""
    kind, name = key
    expected = np.asarray(exact, np.float64)
    difference = np.abs(np.asarray(ours, np.float64).reshape(expected.shape) - expected)
    difference = np.where(np.isnan(difference), np.inf, difference)
    scale = _scale(expected)
    index = np.unravel_index(int(difference.argmax()), expected.shape)
    error = float(difference.max()) / scale
    float32_error = float(np.abs(np.asarray(rounded, np.float64) - expected).max()) / scale
    allowed = FLOAT32_FACTOR * float32_error + FLOAT32_SLACK
    if float32_error < PROMISES[kind]:  # else PyTorch float32 could not keep the promise either
        allowed = min(allowed, PROMISES[kind])
    at_kink = False
    if error > allowed:
        widened = allowed + FLOAT32_FACTOR * spread()
        at_kink = error <= widened
        allowed = widened if at_kink else allowed
    return Deviation(
        kind, name, case, tuple(int(i) for i in index),
        float(np.asarray(ours).reshape(expected.shape)[index]), float(expected[index]),
        error, float32_error, allowed, at_kink,
    )  # fmt: skip


def _named(
    loss: Any, outputs: Iterable[Array], gradients: Mapping[str, Array]
) -> dict[tuple[str, str], Array]:
    return {
        ("loss", "loss"): np.asarray(loss),
        **{("output", f"output/{i}"): o for i, o in enumerate(outputs)},
        **{("gradient", name): g for name, g in gradients.items()},
    }


def _scale(expected: Array) -> float:
    return max(float(np.abs(expected).max(initial=0.0)), float(np.finfo(np.float32).tiny))


def _rounded(array: Array, rng: np.random.Generator | None) -> Array:
    """Moved by about one float32 rounding of its scale, where a generator is given."""
    if rng is None or array.dtype.kind != "f":
        return array
    wide: Array = array.astype(np.float64)
    moved: Array = wide + ROUNDING * np.abs(wide).max(initial=0.0) * rng.uniform(-1, 1, wide.shape)
    return moved


@contextmanager
def _folder(bundle: str | Path | Compiled, runtime: bool) -> Iterator[Path]:
    if not isinstance(bundle, Compiled):
        yield Path(bundle)
        return
    with TemporaryDirectory(prefix="hearth-verify-") as folder:
        bundle.save(folder, runtime=runtime)
        yield Path(folder)


def _step_of(bundle: str | Path | Compiled, path: Path) -> TrainStep:
    step = bundle.step if isinstance(bundle, Compiled) else read_build(path).step
    if step is None:
        raise InvalidInputError(
            "the bundle does not contain its PyTorch model",
            why="functions have none, and models made of local classes cannot be pickled",
            remedy="pass it: verify(bundle, step=TrainStep(...))",
        )
    return step
