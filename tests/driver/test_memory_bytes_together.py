"""`memory_bytes=` together with what else a step may have: the same values, within the budget."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hearth
from hearth.driver.compiled import Compiled
from hearth.functions.augmentation import Compose
from hearth.functions.geometry import random_flip
from hearth.functions.mixing import mixup, one_hot

pytestmark = pytest.mark.wasm

BATCH, CLASSES, SHAPE, WIDTH = 192, 5, (2, 6, 6), 96
EXAMPLES = torch.zeros(2, *SHAPE), torch.zeros(2, dtype=torch.long)
AUGMENTATION = Compose([random_flip, partial(one_hot, classes=CLASSES), mixup])


class Net(nn.Module):
    """Products, and between them what is cheap to compute again."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(72, WIDTH)
        self.second = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)
        self.dropout = nn.Dropout(0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.gelu(self.first(x.flatten(1)))
        x = x + self.dropout(torch.sigmoid(self.second(x)))
        return self.head(torch.tanh(x) * x)


def compiled(
    step_options: dict[str, Any], options: Callable[[nn.Module], dict[str, Any]], **budget: Any
) -> Compiled:
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    step = hearth.TrainStep(model, nn.CrossEntropyLoss(), optimizer, **step_options)
    bundle: Compiled = hearth.compile(
        step, *EXAMPLES, backends=("wasm",), **options(model), **budget
    )
    return bundle


def explained(model: nn.Module) -> dict[str, Any]:
    return {"explain": hearth.explain(model, EXAMPLES[0], methods=["saliency"])}


# Options of the step and of the compiler, and the part of the memory that must do.
CASES: dict[str, tuple[dict[str, Any], Callable[[nn.Module], dict[str, Any]], float]] = {
    "inspect": ({}, lambda _: {"inspect": True}, 0.97),
    "explain": ({}, explained, 0.96),
    "augmentation": ({"augmentation": AUGMENTATION}, lambda _: {}, 0.96),
    "accumulate": ({"accumulate": True, "clip_grad_norm": 1.0}, lambda _: {}, 0.96),
    "float16": ({"precision": "float16"}, lambda _: {}, 0.9),
    "bfloat16": ({"precision": "bfloat16"}, lambda _: {}, 0.9),
}


def trained(bundle: Compiled, folder: Path) -> dict[str, Any]:
    """What steps leave, what every other program gives, and how large the memory was."""
    bundle.save(folder, runtime=False)
    random = np.random.default_rng(0)
    batches = [
        ((random.normal(size=(n, *SHAPE)).astype("f4"),), (random.integers(0, CLASSES, n),))
        for n in (BATCH, 7)
    ]
    found: dict[str, Any] = {}
    with hearth.open_runner(folder, "wasm", seed=3, batch_size=BATCH) as runner:
        found["losses"] = runner.train_many(batches)
        x, y = batches[0]
        if "accumulate" in bundle.manifest.programs:
            found["part"] = runner.accumulate_batch(x, y).loss
            found |= runner.apply_gradients()
        for name, program in bundle.manifest.programs.items():
            if name in ("train", "accumulate", "apply"):
                continue
            known = {"draw": np.array(2), "input/1": y[0]}  # of augment, and the class to explain
            inputs = [i.name for i in program.inputs if i.role == "input"]
            given = (*x, *(known[key] for key in inputs[1:]))
            targets = y if any(i.role == "target" for i in program.inputs) else ()
            outputs = runner.run(name, given, targets)
            found |= {f"{name}: {key}": value for key, value in outputs.items()}
        found["memory"] = runner._device._bytes.nbytes  # type: ignore[attr-defined]
        return found | runner.export_state()


@pytest.mark.parametrize("name", CASES)
def test_the_step_fits_and_gives_what_it_gives_without_a_budget(name: str, tmp_path: Path) -> None:
    of_step, options, part = CASES[name]
    free = compiled(of_step, options)
    wanted = int(part * free.memory_bytes(BATCH)["wasm"])
    limited = compiled(of_step, options, memory_bytes=wanted, memory_batch=BATCH)
    found, expected = trained(limited, tmp_path / "limited"), trained(free, tmp_path / "free")
    assert found.pop("memory") == limited.memory_bytes(BATCH)["wasm"] <= wanted
    assert expected.pop("memory") == free.memory_bytes(BATCH)["wasm"]
    assert len(limited.kernels) > len(free.kernels)  # something is computed again
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        tolerance = 1e-5 * float(np.abs(value).max(initial=0)) + 1e-6
        np.testing.assert_allclose(found[key], value, rtol=0, atol=tolerance, err_msg=key)
