"""Writes what ONNX Runtime's sessions take, for training and for predictions: run by `ort.py`.

    python -m bench.peers.ort_artifacts WORKLOAD FOLDER

It runs in an environment of its own, because onnxruntime-training 1.19.2 is from before NumPy 2.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import onnx
import torch
from onnxruntime.training import artifacts, onnxblock
from torch import nn

from bench.workloads import WORKLOADS


class Logits(nn.Module):
    """[rows, classes], whatever the model returns: the loss block takes no other shape."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(x)
        return logits.flatten(0, -2)


def export(model: nn.Module, example: torch.Tensor, file: Path, *, training: bool) -> None:
    mode = torch.onnx.TrainingMode.TRAINING if training else torch.onnx.TrainingMode.EVAL
    torch.onnx.export(
        model, (example,), file, dynamo=False, opset_version=15, training=mode,
        do_constant_folding=not training, input_names=["input"], output_names=["output"],
        dynamic_axes={"input": {0: "batch"}, "output": {0: "rows"}},
    )  # fmt: skip


def main() -> None:
    workload, folder = WORKLOADS[sys.argv[1]], Path(sys.argv[2])
    warnings.simplefilter("ignore")
    model = Logits(workload.seeded_model())
    file = folder / "forward.onnx"
    example = workload.batch(2)[0]
    export(model, example, file, training=True)
    export(model, example, folder / "inference.onnx", training=False)
    trained = [name for name, _ in model.named_parameters()]
    exported = onnx.load(file)
    known = {tensor.name for tensor in exported.graph.initializer}
    artifacts.generate_artifacts(
        exported,
        requires_grad=[name for name in trained if name in known],
        frozen_params=sorted(known - set(trained)),
        loss=artifacts.LossType.CrossEntropyLoss,
        optimizer=onnxblock.optim.AdamW(eps=1e-8, weight_decay=0.0),
        artifact_directory=folder,
    )


if __name__ == "__main__":
    main()
