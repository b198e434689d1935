"""`hearth.verify`: a bundle against PyTorch float64, with PyTorch float32's own error beside it.

Each random case perturbs the weights, draws a batch, and compares the outputs, the loss and every
gradient, then the losses of ten training steps and the weights after them.  An error is relative to
the tensor's largest element.  The bound for every tensor is

    error(ours) <= 4 · error(PyTorch float32) + slack

(PyTorch under autocast for a step in mixed precision)
with a slack of 1e-5 where the bundle was compiled with accuracy="fast" and 1e-6 where "strict",
and, on top, 1e-5 for outputs and losses and 1e-4 for gradients, wherever PyTorch float32 keeps
these itself.  Where an activation crosses its kink two correct float32 computations may fall on
different sides, and training amplifies it: a tensor outside of the bound is judged by how far
PyTorch float32 lands from float64 when weights and inputs move by one rounding.  That is a wider
bound; the report counts the tensors that needed it.  Ten steps may meet a kink that few draws of
PyTorch come near: then every step is judged alone, weights and optimizer state, against PyTorch
from the state that the runner had before that step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hearth.bundle.manifest import Manifest
from hearth.bundle.read import read_bundle
from hearth.driver.cases import Case, Key, Results, named, random_case, trained
from hearth.driver.compiled import Compiled, step_of
from hearth.driver.golden import SLACK
from hearth.driver.report import Deviation, VerifyReport
from hearth.driver.runners import open_runner
from hearth.errors import InvalidInputError, NumericalInstabilityError
from hearth.runtime.runner import Batch, Runner
from hearth.steps.train_step import TrainStep

Array = NDArray[Any]

PROMISES: Final = {
    "output": 1e-5,
    "loss": 1e-5,
    "gradient": 1e-4,
    "losses": math.inf,  # of training, where errors add up
    "weight": math.inf,
    "optimizer": math.inf,
}
FLOAT32_FACTOR: Final = 4.0
KINK_DRAWS: Final = 16


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
        files = read_bundle(path)
        verifiers = []
        for name in runners:
            opened = open_runner(path, name, **options)
            stack.callback(opened.close)
            report = VerifyReport(name, opened.device, cases)
            verifiers.append(Verifier(opened, report, slack_of(files.manifest, name)))
        step = step or step_of(bundle)
        for number in range(cases):
            case = random_case(step, files, number, seed)
            for verifier in verifiers:
                verifier.check(case)
            progress(number + 1)
    return [verifier.report for verifier in verifiers]


def slack_of(manifest: Manifest, runner: str) -> float:
    """What a value may err on top: only WebAssembly trades accuracy for speed."""
    is_traded = manifest.accuracy == "fast" and "wasm" in runner
    return SLACK["fast" if is_traded else "strict"]


class Verifier:
    """One runner under test."""

    def __init__(self, runner: Runner, report: VerifyReport, slack: float) -> None:
        self.runner, self.report, self.slack = runner, report, slack
        self.state = runner.export_state()

    def check(self, case: Case) -> list[Deviation]:
        """Adds the worst element of every tensor to the report, and returns them."""
        self._begin(case)
        results = self._once(case)
        deviations = _judge_all(case, "once", results, self.slack)
        losses = [self._train(batch) for batch in case.batches]
        results = trained(losses, self.runner.export_weights(), {})
        after = _judge_all(case, "trained", results, self.slack)
        if not all(d.ok for d in after):
            after = self._step_by_step(case)
            self.report.stepped += 1
        for deviation in (*deviations, *after):
            self.report.add(deviation)
        return [*deviations, *after]

    def _begin(self, case: Case) -> None:
        self.runner.load_state({**self.state, **case.start})
        self.runner.seed = case.number

    def _once(self, case: Case) -> Results:
        result = self.runner.gradients(*case.batches[0])
        return named(result.loss, result.outputs, result.gradients)

    def _train(self, batch: Batch) -> float:
        with suppress(NumericalInstabilityError):  # the step is done, its weights are judged
            return self.runner.train_batch(*batch).loss
        return math.nan

    def _step_by_step(self, case: Case) -> list[Deviation]:
        """The worst step of every weight and of everything that the optimizer has gathered."""
        self._begin(case)
        worst: dict[Key, Deviation] = {}
        for number, batch in enumerate(case.batches):
            one = case.going_on(self.runner.export_state(), number)
            loss = self._train(batch)
            state, weights = self.runner.export_state(), self.runner.export_weights()
            known = one.exact("trained")
            gathered = {n: state[n] for kind, n in known if kind == "optimizer"}
            results = trained([loss], weights, gathered)
            for deviation in _judge_all(one, "trained", results, self.slack):
                key = (deviation.kind, deviation.name)
                if key not in worst or deviation.excess > worst[key].excess:
                    worst[key] = deviation
        return list(worst.values())


def _judge_all(case: Case, kind: str, results: Results, slack: float) -> list[Deviation]:
    exact, rounded = case.exact(kind), case.rounded(kind)
    return [
        judge(
            key, case.number, ours, exact[key], rounded[key],
            partial(_spread, case, kind, key, slack), slack,
        )
        for key, ours in results.items()
    ]  # fmt: skip


def _spread(case: Case, kind: str, key: Key, slack: float, enough: float) -> float:
    """How far PyTorch float32 lands from float64 when weights and inputs move by one rounding.

    Where the bundle may trade accuracy, gradients move by as much: Adam magnifies what is left of
    one that is exactly 0.

    A draw falls on the other side of a kink about every second time; it is drawn again, up to
    `KINK_DRAWS` times, until the spread is `enough`.
    """
    exact = np.asarray(case.exact(kind)[key], np.float64)
    spread = 0.0
    for draw in range(KINK_DRAWS):
        moved = case.moved(kind, draw, slack - SLACK["strict"])[key]
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
    slack: float = SLACK["strict"],
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
    if not math.isfinite(float32_error):  # the scaled gradient overflows in PyTorch, too
        float32_error = math.inf
    allowed = FLOAT32_FACTOR * float32_error + slack
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
