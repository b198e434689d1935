"""Which architectures compile, how far each backend is from PyTorch, and what that costs.

    python bench/architectures.py [--tables trained,full,published] [--missing] [NAME ...]

Measures the named rows (by default all of the chosen tables, with --missing only those that have
never been measured), keeps every measurement in build/architectures.json, and writes
docs/architectures.md from all that are kept.  `published` needs the packages that
tests/architectures/published/models.py names.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import hearth  # noqa: E402
from hearth.driver.compiled import Compiled  # noqa: E402
from tests.architectures.classification import Example, adamw, classification, sgd  # noqa: E402
from tests.architectures.convolutional import BasicBlock, ResNet  # noqa: E402
from tests.architectures.models import ARCHITECTURES  # noqa: E402
from tests.architectures.published.models import PUBLISHED  # noqa: E402
from tests.architectures.sequence import GPT, next_token_loss  # noqa: E402
from tests.architectures.training import RUNNERS, Trained, seeded, train  # noqa: E402

KEPT = ROOT / "build" / "architectures.json"
PAGE = ROOT / "docs" / "architectures.md"

Row = dict[str, Any]


# ---------------------------------------------------------------- measuring


def trained(name: str) -> Row:
    training = train(seeded(name))
    return {
        "compile_s": training.compile_s,
        **code_bytes(training.bundle),
        "runs": {runner: deviation(run) for runner, run in training.runs.items()},
    }


def deviation(run: Trained) -> Row:
    return {
        "ok": run.report.ok,
        "error": run.error,
        "float32": run.float32_error,
        "stepped": run.report.stepped > 0,
        "device": run.report.device,
    }


def code_bytes(bundle: Compiled) -> Row:
    """What a page loads besides weights and runtime; of the WebAssembly variants, one."""
    variant = bundle.manifest.wasm.variants[0].file if bundle.manifest.wasm else ""
    return {
        "wasm": len(bundle.files[variant]),
        "wgsl": len(bundle.files["kernels.wgsl"]),
        "kernels": len(bundle.kernels),
    }


def resnet18() -> Example:
    return classification(ResNet(BasicBlock, (2, 2, 2, 2), width=64), torch.randn(8, 3, 32, 32))


def gpt() -> Example:
    model = GPT(layers=6, width=192, heads=6, vocabulary=4096, length=64)
    tokens = torch.randint(0, 4096, (4, 64))
    return hearth.TrainStep(model, next_token_loss, adamw(list(model.parameters()))), tokens, tokens


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.LSTM | nn.GRU]) -> None:
        super().__init__()
        self.recurrent = kind(12, 32, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(64, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.recurrent(x)[0][:, -1])


def recurrent(kind: type[nn.LSTM | nn.GRU]) -> Example:
    return classification(Recurrent(kind), torch.randn(8, 24, 12), sgd)


FULL: dict[str, Callable[[], Example]] = {
    "ResNet-18 for CIFAR (64 wide, 32×32)": resnet18,
    "GPT (6 layers, 192 wide, 64 tokens of 4096)": gpt,
    "LSTM (2 layers, bidirectional, 24 steps)": lambda: recurrent(nn.LSTM),
    "GRU (2 layers, bidirectional, 24 steps)": lambda: recurrent(nn.GRU),
}


def full(name: str) -> Row:
    torch.manual_seed(0)
    example = FULL[name]()
    wall, cpu = time.perf_counter(), time.process_time()
    bundle = hearth.compile(*example)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"cpu_s": cpu, "wall_s": wall, "parameters": size(example[0]), **code_bytes(bundle)}


def published(name: str) -> Row:
    torch.manual_seed(0)
    example = PUBLISHED[name]()
    cpu = time.process_time()
    report = hearth.check(*example)
    cpu = time.process_time() - cpu
    shape = "×".join(str(extent) for extent in example[1].shape[1:])
    said = str(report).replace(str(Path.cwd()) + "/", "")
    return {"ok": report.ok, "said": said, "cpu_s": cpu, "parameters": size(example[0]),
            "input": shape}  # fmt: skip


def size(step: hearth.TrainStep) -> int:
    return sum(p.numel() for p in step.model.parameters())


TABLES: dict[str, tuple[Callable[[str], Row], tuple[str, ...]]] = {
    "trained": (trained, tuple(ARCHITECTURES)),
    "full": (full, tuple(FULL)),
    "published": (published, tuple(PUBLISHED)),
}


# ---------------------------------------------------------------- writing

HEAD = """<!-- Written by `python bench/architectures.py`: run it again instead of editing. -->

# Architectures

What is trained in the tests, what compiling costs, and what `hearth check` says of models from
other packages; rows are what has been measured so far.  Figures are from one machine with two
cores that were shared with other work, which makes CPU time longer, too.

## Trained on every backend, next to PyTorch

Twenty steps each, with batches of 2 and 5 in turn, compiled with 3.  Every run of
`tests/architectures` takes as many on WebAssembly, but four on WebGPU, and trains only ten of the
models on that of Chromium, which must accept the WGSL of all.  Small
versions with every kind of layer of the original.  A cell is the largest deviation of any loss or
final weight from PyTorch float64, relative to the largest element of its tensor; in brackets, how
many times PyTorch float32's own; tensors that are zero but for rounding are compared in the tests
and left out here.  WebGPU runs on lavapipe in Python and on SwiftShader in Chromium.
`*`: rounding took the run across a kink (of ReLU, of a maximum), so that every step was compared
alone, from the state that the device had.
"""
FULL_HEAD = """
## Compile time and code at full width

Code is one WebAssembly variant and the WGSL of a bundle, before compression, without weights.
"""
PUBLISHED_HEAD = """
## Models as published

Taken from torchvision 0.28.0, timm 1.0.31, vit-pytorch 1.26.11 and transformers 5.23.0 as they are
(`tests/architectures/published/models.py`), at full size, with SGD or AdamW and cross-entropy.
"""


def page(kept: dict[str, dict[str, Row]]) -> str:
    return "".join((
        HEAD, trained_table(kept["trained"]),
        FULL_HEAD, full_table(kept["full"]),
        PUBLISHED_HEAD, published_table(kept["published"]),
    ))  # fmt: skip


def trained_table(rows: dict[str, Row]) -> str:
    lines = [
        ["architecture", *RUNNERS, "compile", "wasm", "WGSL", "kernels"],
        ["---", *["---"] * len(RUNNERS), *["--:"] * 4],
    ]
    for name, row in rows.items():
        cells = [cell(row["runs"][runner]) for runner in RUNNERS]
        lines.append([name, *cells, f"{row['compile_s']:.1f} s", *code(row)])
    return table(lines)


def cell(run: Row) -> str:
    times = run["error"] / run["float32"] if run["float32"] else 1.0
    star = "*" if run["stepped"] else ""
    return f"{run['error']:.1e} ({times:.1f}×){star}" + ("" if run["ok"] else " FAILED")


def code(row: Row) -> list[str]:
    return [f"{row['wasm'] / 1024:.0f} KiB", f"{row['wgsl'] / 1024:.0f} KiB", str(row["kernels"])]


def full_table(rows: dict[str, Row]) -> str:
    lines = [
        ["model", "parameters", "CPU time", "wasm", "WGSL", "kernels"],
        ["---", *["--:"] * 5],
    ]
    for name, row in rows.items():
        lines.append([name, f"{row['parameters']:,}", f"{row['cpu_s']:.1f} s", *code(row)])
    return table(lines)


def published_table(rows: dict[str, Row]) -> str:
    lines = [["model", "input", "parameters", "`hearth check`"], ["---", "---", "--:", "---"]]
    reports = []
    for name, row in rows.items():
        said = row["said"] if row["ok"] else "see below"
        lines.append([name, row["input"], f"{row['parameters']:,}", said])
        if not row["ok"]:
            reports.append(f"\n{name}:\n\n```\n{row['said']}\n```\n")
    return table(lines) + "".join(reports)


def table(lines: list[list[str]]) -> str:
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--tables", default=",".join(TABLES))
    parser.add_argument("--missing", action="store_true")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    kept = json.loads(KEPT.read_text()) if KEPT.is_file() else {}
    kept = {table: kept.get(table, {}) for table in TABLES}
    for key in given.tables.split(","):
        measure, names = TABLES[key]
        for name in names:
            is_chosen = not given.names or name in given.names
            if is_chosen and not (given.missing and name in kept[key]):
                kept[key][name] = measure(name)
                print(f"{key}: {name}: {json.dumps(kept[key][name])[:160]}", flush=True)
                KEPT.parent.mkdir(exist_ok=True)
                KEPT.write_text(json.dumps(kept))
        kept[key] = {name: kept[key][name] for name in names if name in kept[key]}
    PAGE.write_text(page(kept))


if __name__ == "__main__":
    main()
