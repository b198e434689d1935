"""A first training: a small classifier, compiled, trained, and loaded back into PyTorch.

    python examples/01_first_training.py

It runs the bundle's WebAssembly in this process.  Replace "wasm" by "chromium:wasm" and the very
same bundle trains in a real browser; a web page does it with the six lines of the README.
"""

from __future__ import annotations

import tempfile

import numpy as np
import torch
from torch import nn

import hearth

# A model, a loss and an optimizer: plain PyTorch.
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
step = hearth.TrainStep(
    model,
    loss=nn.CrossEntropyLoss(),
    optimizer=torch.optim.Adam(model.parameters(), lr=0.02),
)

# Two rings of points: the inner one is class 0, the outer one class 1.
random = np.random.default_rng(0)
labels = random.integers(0, 2, 512)
angles = random.uniform(0, 2 * np.pi, 512)
radii = 1 + labels + 0.1 * random.normal(size=512)
points = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1).astype(np.float32)

# Forward, backward and update become one bundle; only shapes and dtypes of the examples matter.
bundle = hearth.compile(step, torch.zeros(1, 2), torch.zeros(1, dtype=torch.long))

with tempfile.TemporaryDirectory() as folder:
    bundle.save(folder)
    runner = hearth.open_runner(folder, "wasm")
    for epoch in range(30):
        for rows in random.permutation(512).reshape(-1, 64):
            result = runner.train_batch((points[rows],), (labels[rows],))
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1}: loss {result.loss:.4f}")
    weights = runner.export_weights()
    runner.close()

# The weights have their state_dict names: they load as if PyTorch had trained them.
model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
right = model(torch.from_numpy(points)).argmax(1) == torch.from_numpy(labels)
print(f"accuracy in PyTorch: {right.double().mean():.1%}")
