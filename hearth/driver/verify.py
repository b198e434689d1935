"""`hearth.verify`: a bundle against PyTorch float64, with PyTorch float32's own error beside it.

Each random case perturbs the weights, draws a batch, and compares the outputs, the loss and every
gradient, then the weights after ten training steps.  An error is relative to the tensor's largest
element.  The bound for every tensor is

    error(ours) <= 4 · error(PyTorch float32) + 1e-6

and, on top, 1e-5 for outputs and losses and 1e-4 for gradients, wherever PyTorch float32 keeps
these itself.  Where an activation crosses its kink two correct float32 computations may fall on
different sides, and training amplifies it: a tensor outside of the bound is judged by how far
PyTorch float32 lands from float64 when weights and inputs move by one rounding.  That is a wider
bound; the report counts the tensors that needed it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hearth.bundle.read import read_bundle
from hearth.driver.cases import Case, Key, Results, named
from hearth.driver.compiled import Compiled, read_build
from hearth.driver.runners import open_runner
from hearth.errors import InvalidInputError, NumericalInstabilityError
from hearth.runtime.runner import Runner
from hearth.steps.train_step import TrainStep

Array = NDArray[Any]

PROMISES: Final = {"output": 1e-5, "loss": 1e-5, "gradient": 1e-4, "weight": math.inf}
FLOAT32_FACTOR: Final = 4.0
FLOAT32_SLACK: Final = 1e-6
KINK_DRAWS: Final = 16


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
            lines.append(
                f"{self.kinks} tensors needed the wider bound (PyTorch float32 after a rounding)"
            )
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
    (report,) = verify_on(
        bundle, [runner], cases, step=step, seed=seed, progress=progress, **options
    )
    return report


def verify_on(
    bundle: str | Path | Compiled,
    runners: Sequence[str],
    cases: int = 100,
    *,
    step: TrainStep | None = None,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _: None,
    **options: Any,
) -> list[VerifyReport]:
    """`verify` on several runners at once: PyTorch computes every case only once."""
    if cases < 1:
        raise InvalidInputError(f"cases is {cases}", remedy="ask for at least one case")
    in_browser = any(r.startswith("chromium") for r in runners)
    with _folder(bundle, runtime=in_browser) as path, ExitStack() as stack:
        verifiers = []
        for name in runners:
            opened = open_runner(path, name, **options)
            stack.callback(opened.close)
            verifiers.append(_Verifier(opened, VerifyReport(name, opened.device, cases)))
        step = step or _step_of(bundle, path)
        files = read_bundle(path)
        for number in range(cases):
            case = Case(step, files, number, seed)
            for verifier in verifiers:
                verifier.check(case)
            progress(number + 1)
    return [verifier.report for verifier in verifiers]


class _Verifier:
    """One runner under test."""

    def __init__(self, runner: Runner, report: VerifyReport) -> None:
        self.runner, self.report = runner, report
        self.state = runner.export_state()

    def check(self, case: Case) -> None:
        self.runner.load_state({**self.state, **case.weights})
        self.runner.seed = case.number
        for kind, results in (("once", self._once(case)), ("trained", self._trained(case))):
            exact, rounded = case.exact(kind), case.rounded(kind)
            for key, ours in results.items():
                spread = partial(_spread, case, kind, key)
                self.report.add(judge(key, case.number, ours, exact[key], rounded[key], spread))

    def _once(self, case: Case) -> Results:
        result = self.runner.gradients(*case.batches[0])
        return named(result.loss, result.outputs, result.gradients)

    def _trained(self, case: Case) -> Results:
        for batch in case.batches:
            with suppress(NumericalInstabilityError):  # the step is done, its weights are judged
                self.runner.train_batch(*batch)
        return {("weight", name): value for name, value in self.runner.export_weights().items()}


def _spread(case: Case, kind: str, key: Key, enough: float) -> float:
    """How far PyTorch float32 lands from float64 when weights and inputs move by one rounding.

    A draw falls on the other side of a kink about every second time; it is drawn again, up to
    `KINK_DRAWS` times, until the spread is `enough`.
    """
    exact = np.asarray(case.exact(kind)[key], np.float64)
    spread = 0.0
    for draw in range(KINK_DRAWS):
        moved = case.moved(kind, draw)[key]
        spread = max(spread, float(np.abs(moved - exact).max()) / _scale(exact))
        if spread >= enough:
            break
    return spread


def judge(
    key: tuple[str, str],
    case: int,
    ours: Array,
    exact: Array,
    rounded: Array,
    spread: Callable[[float], float],
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
        widened = allowed + FLOAT32_FACTOR * spread((error - allowed) / FLOAT32_FACTOR)
        at_kink = error <= widened
        allowed = widened if at_kink else allowed
    return Deviation(
        kind, name, case, tuple(int(i) for i in index),
        float(np.asarray(ours).reshape(expected.shape)[index]), float(expected[index]),
        error, float32_error, allowed, at_kink,
    )  # fmt: skip


def _scale(expected: Array) -> float:
    return max(float(np.abs(expected).max(initial=0.0)), float(np.finfo(np.float32).tiny))


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
