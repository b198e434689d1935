"""What every peer of one workload starts from, as files: weights, batches, reference losses.

Everything is kept under build/bench and made again when the sources it came from have changed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.workloads import Workload, loss, optimizer

ROOT: Final = Path(__file__).resolve().parents[1]
BUILD: Final = ROOT / "build" / "bench"
CHECKED_STEPS: Final = 4  # steps whose losses must agree


@dataclass(frozen=True)
class Case:
    """One workload at one batch size, and the folder of its files."""

    workload: Workload
    rows: int

    @property
    def key(self) -> str:
        return f"{self.workload.name}/{self.rows}"

    @property
    def folder(self) -> Path:
        return BUILD / self.key

    def losses(self) -> list[float]:
        """The losses of the first steps in PyTorch, in float64."""
        found: list[float] = json.loads((self.folder / "losses.json").read_text())
        return found


def prepare(case: Case) -> None:
    """Writes data.json, data.bin and losses.json of a case."""
    sources = [ROOT / "bench" / "workloads.py", Path(__file__), ROOT / "examples" / "models.py",
               *(ROOT / "tests" / "architectures").glob("*.py")]  # fmt: skip
    make_once(case.folder, sources, lambda: _write(case))


def make_once(folder: Path, sources: Iterable[Path], make: Callable[[], None]) -> None:
    """Calls `make` unless it was called for this folder with sources of the same content."""
    digest = sha256()
    for path in sorted(sources):
        digest.update(path.read_bytes())
    stamp = folder / "sources.sha256"
    if stamp.is_file() and stamp.read_text() == digest.hexdigest():
        return
    folder.mkdir(parents=True, exist_ok=True)
    make()
    stamp.write_text(digest.hexdigest())


def _write(case: Case) -> None:
    model = case.workload.seeded_model()
    arrays = {f"weight/{name}": tensor for name, tensor in model.state_dict().items()}
    for i, (x, y) in enumerate(case.workload.batches(case.rows)):
        arrays |= {f"x/{i}": x, f"y/{i}": y}
    table, block = pack({name: tensor.numpy() for name, tensor in arrays.items()})
    (case.folder / "data.bin").write_bytes(block)
    trained = [name for name, _ in model.named_parameters()]
    (case.folder / "data.json").write_text(json.dumps({"arrays": table, "trained": trained}))
    (case.folder / "losses.json").write_text(json.dumps(reference_losses(case)))


def pack(arrays: dict[str, np.ndarray[Any, Any]]) -> tuple[list[dict[str, Any]], bytes]:
    """Where each array lies in one block of bytes, and the block; integers become int32."""
    table, chunks, offset = [], [], 0
    for name, array in arrays.items():
        dtype = np.dtype(np.float32 if array.dtype.kind == "f" else np.int32)
        data = np.ascontiguousarray(array, dtype).tobytes()
        entry = {"name": name, "dtype": dtype.name, "shape": array.shape, "offset": offset}
        table.append(entry)
        chunks.append(data)
        offset += len(data)
    return table, b"".join(chunks)


def reference_losses(case: Case) -> list[float]:
    model = case.workload.seeded_model().double()
    adamw = optimizer(model)
    losses = []
    batches = case.workload.batches(case.rows)
    for step in range(CHECKED_STEPS):
        x, y = batches[step % len(batches)]
        adamw.zero_grad()
        value = loss(model(x.double() if x.is_floating_point() else x), y)
        value.backward()  # type: ignore[no-untyped-call]
        adamw.step()
        losses.append(value.item())
    return losses
