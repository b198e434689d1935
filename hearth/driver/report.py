"""What a verification found: the worst element of each tensor, as a table of the worst per kind."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


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

    @property
    def excess(self) -> float:
        """How much of the bound is used; an infinite error exceeds every bound."""
        return self.error / self.allowed


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
    stepped: int = 0

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
            f"{'what':<9}{'compared':>9}  {'worst':>8}  {'PyTorch':>11}  {'allowed':>8}  where",
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
        if self.stepped:
            lines.append(f"{self.stepped} cases were judged step by step")
        lines += [
            f"FAILED case {d.case}: {d.kind} {d.name}{list(d.index)} = {d.ours!r}, "
            f"expected {d.expected!r} (error {d.error:.2e} > {d.allowed:.2e})"
            for d in self.failures[:20]
        ]
        lines.append("ok" if self.ok else f"{len(self.failures)} tensors FAILED")
        return "\n".join(lines)
