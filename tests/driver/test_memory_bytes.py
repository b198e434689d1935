"""`memory_bytes=`: the step fits, no number is different, and what cannot be reached is said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hearth
from hearth.driver.compiled import Compiled
from hearth.errors import InvalidInputError, OutOfMemoryError

BATCH = 96


class Attention(nn.Module):
    """Dropout, softmax, LayerNorm and GELU."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 2, 96, 0.2, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(x).mean(1))


class Images(nn.Module):
    """Convolutions, BatchNorm, a residual connection and two kinds of pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.inner = nn.ModuleList(
            nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Sigmoid())
            for _ in range(4)
        )
        self.head = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8 * 4, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(self.first(x), 3, 2, 1)
        for block in self.inner:
            x = x + block(x)
        return self.head(x)


# The shape of a sample, and the part of the memory that must do.
MODELS: dict[str, tuple[type[nn.Module], tuple[int, ...], float]] = {
    "attention": (Attention, (16, 32), 0.75),
    "images": (Images, (3, 8, 8), 0.9),
}


def compiled(name: str, **options: Any) -> Compiled:
    torch.manual_seed(0)
    make, shape, _ = MODELS[name]
    model = make()
    step = hearth.TrainStep(model, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters()))
    examples = torch.zeros(2, *shape), torch.zeros(2, dtype=torch.long)
    bundle: Compiled = hearth.compile(step, *examples, backends=("wasm",), **options)
    return bundle


def trained(bundle: Compiled, shape: tuple[int, ...], folder: Path) -> dict[str, Any]:
    """Everything that steps of two batch sizes leave, and how large the memory was."""
    bundle.save(folder, runtime=False)
    random = np.random.default_rng(0)
    batches = [
        ((random.normal(size=(n, *shape)).astype("f4"),), (random.integers(0, 5, n),))
        for n in (BATCH, 7)
    ]
    with hearth.open_runner(folder, "wasm", seed=3, batch_size=BATCH) as runner:
        losses = runner.train_many(batches)
        gradients = runner.gradients(*batches[0]).gradients
        memory = runner._device._bytes.nbytes  # type: ignore[attr-defined]
        return {"memory": memory, "losses": losses, **gradients, **runner.export_state()}


@pytest.mark.wasm
@pytest.mark.parametrize("name", MODELS)
def test_the_step_fits_and_no_bit_is_different(name: str, tmp_path: Path) -> None:
    _, shape, part = MODELS[name]
    free = compiled(name)
    wanted = int(part * free.memory_bytes(BATCH)["wasm"])
    limited = compiled(name, memory_bytes=wanted, memory_batch=BATCH)
    found = trained(limited, shape, tmp_path / "limited")
    assert found["memory"] == limited.memory_bytes(BATCH)["wasm"] <= wanted
    expected = trained(free, shape, tmp_path / "free")
    assert expected.pop("memory") == free.memory_bytes(BATCH)["wasm"]
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)


def test_what_cannot_be_reached_is_refused_and_what_is_offered_instead_compiles() -> None:
    with pytest.raises(OutOfMemoryError, match=f"a batch of {BATCH} needs") as refused:
        compiled("attention", memory_bytes=900_000, memory_batch=BATCH)
    least = int(re.search(r"memory_bytes=(\d+)", refused.value.remedy)[1])  # type: ignore[index]
    smaller = int(re.search(r"memory_batch=(\d+)", refused.value.remedy)[1])  # type: ignore[index]
    assert compiled("attention", memory_bytes=least, memory_batch=BATCH)
    bundle = compiled("attention", memory_bytes=900_000, memory_batch=smaller)
    assert bundle.memory_bytes(smaller)["wasm"] <= 900_000


@pytest.mark.parametrize("wrong", [0, -5, 1.5, True])
def test_a_budget_that_is_no_number_of_bytes_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidInputError, match="memory_bytes is"):
        compiled("images", memory_bytes=wrong)


def test_the_gradients_of_a_step_take_no_memory_of_their_own() -> None:
    manifest = compiled("attention").manifest
    gradients = manifest.programs["gradients"]
    places = [manifest.buffers[o.buffer] for o in gradients.outputs if o.role == "gradient"]
    assert places
    assert all(place.slot is None for place in places)
