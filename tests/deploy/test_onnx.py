"""ONNX files compute what PyTorch computes, in ONNX Runtime, for every batch size."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import hearth
from hearth import exporting
from hearth.deploy import onnx_file
from hearth.deploy.onnx_file import PRECISIONS, run_onnx
from hearth.exporting import export_trained


class Model(nn.Module):
    """A convolution, a norm that differs in evaluation, a sequence of vectors, a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.mix = nn.Linear(64, 16)
        self.out = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        x = torch.relu(self.mix(x.flatten(2)))
        return self.out(x.flatten(1))


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    model = Model()
    model(torch.randn(16, 1, 8, 8))  # statistics that are not 0 and 1
    return model


def outputs(model: nn.Module, x: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return model.eval()(x).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_outputs_agree_as_far_as_the_precision_allows(
    model: Model, tmp_path: Path, precision: str
) -> None:
    path = tmp_path / "model.onnx"
    model.train()
    hearth.export_onnx(model, torch.zeros(1, 1, 8, 8), path, precision=precision)
    assert model.training
    x = torch.randn(7, 1, 8, 8)
    wanted = outputs(model, x)
    [ours] = run_onnx(path, [x.numpy()])
    error = np.abs(ours - wanted).max() / np.abs(wanted).max()
    assert error < {"float32": 1e-5, "float16": 2e-3, "int8": 0.05, "int8-dynamic": 0.1}[precision]
    if precision != "float32":
        assert error > 0


@pytest.mark.slow
def test_int8_weights_in_onnx_are_those_of_the_weight_file(model: Model, tmp_path: Path) -> None:
    hearth.export_onnx(model, torch.zeros(2, 1, 8, 8), tmp_path / "int8.onnx", precision="int8")
    hearth.export_onnx(model, torch.zeros(2, 1, 8, 8), tmp_path / "full.onnx")
    hearth.save_weights(model.state_dict(), tmp_path / "w", precision="int8")
    again = Model()
    again.load_state_dict(hearth.load_weights(tmp_path / "w"))
    x = torch.randn(3, 1, 8, 8)
    [ours] = run_onnx(tmp_path / "int8.onnx", [x.numpy()])
    np.testing.assert_allclose(ours, outputs(again, x), rtol=1e-5, atol=1e-5)
    weights = 8 * 9 + 64 * 16 + 128 * 10
    full, small = ((tmp_path / f"{n}.onnx").stat().st_size for n in ("full", "int8"))
    assert full - small > 0.6 * 3 * weights  # of 3 bytes saved each; scales and nodes take some


def test_a_file_that_computes_something_else_is_refused(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = onnx_file.open_onnx
    wrong = lambda data: lambda inputs: [a + 1 for a in right(data)(inputs)]  # noqa: E731
    monkeypatch.setattr(onnx_file, "open_onnx", wrong)
    with pytest.raises(hearth.BackendError, match="output 0 of the ONNX file is off by"):
        hearth.export_onnx(nn.Linear(3, 2), torch.zeros(2, 3), tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_missing_packages_and_unknown_precisions_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(hearth.InvalidInputError, match="no precision 'int4'"):
        hearth.export_onnx(nn.Linear(3, 2), torch.zeros(2, 3), tmp_path / "m", precision="int4")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(hearth.InvalidInputError, match=r"pip install 'hearth\[onnx\]'"):
        hearth.export_onnx(nn.Linear(3, 2), torch.zeros(2, 3), tmp_path / "m")


def save_digits(folder: Path) -> nn.Module:
    """The bundle `dist` of a model of digits, which is returned, and other weights of it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    optimizer = torch.optim.AdamW(model.parameters())
    step = hearth.TrainStep(model, loss=nn.CrossEntropyLoss(), optimizer=optimizer)
    bundle = hearth.compile(
        step, torch.zeros(2, 1, 28, 28), torch.zeros(2, dtype=torch.long), backends=["wasm"]
    )
    bundle.save(folder / "dist", runtime=False)
    trained = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    hearth.save_weights(trained.state_dict(), folder / "w.safetensors")
    return model


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "wanted"), [("float32", 2), ("int8-dynamic", 1)])
def test_a_session_is_opened_for_a_file_not_for_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, wanted: int
) -> None:
    import onnxruntime

    opened, runs = [], []

    class Session(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __init__(self, model: str | bytes, *args: object, **options: object) -> None:
            opened.append(type(model))
            super().__init__(model, *args, **options)

        def run(self, *args: object) -> object:
            runs.append(args)
            return super().run(*args)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(exporting, "EVALUATION_BATCH", 100)
    save_digits(tmp_path)
    output = tmp_path / "model.onnx"
    report = export_trained(
        tmp_path / "dist", tmp_path / "w.safetensors", output, precision=precision
    )
    # What is about to be written is checked on two batches, what was written judged on four.
    assert report.samples == 359
    assert opened == [bytes, str][-wanted:]
    assert len(runs) == {2: 2, 1: 0}[wanted] + 4


@pytest.mark.slow
def test_the_report_tells_accuracy_before_and_after(tmp_path: Path) -> None:
    model = save_digits(tmp_path)
    untrained = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    reports = {
        output: export_trained(
            tmp_path / "dist", tmp_path / "w.safetensors", tmp_path / output, precision="int8"
        )
        for output in ("int8.safetensors", "int8.onnx")
    }
    for report in reports.values():
        assert report.samples == 359
        assert report.after.accuracy is not None
        assert report.before.accuracy is not None
        assert abs(report.after.accuracy - report.before.accuracy) < 0.05
        assert 0 < report.largest_difference < 0.1
        assert "int8" in str(report)
    small = reports["int8.safetensors"]
    assert small.bytes_after < 0.3 * small.bytes_before
    assert all(torch.equal(model.state_dict()[n], t) for n, t in untrained.items())
    with pytest.raises(hearth.InvalidInputError, match=r"end it in .safetensors or .onnx"):
        export_trained(tmp_path / "dist", tmp_path / "w.safetensors", tmp_path / "w.pt")
    with pytest.raises(hearth.InvalidInputError, match="cannot hold 'int8-dynamic'"):
        export_trained(
            tmp_path / "dist", tmp_path / "w.safetensors", tmp_path / "x.safetensors",
            precision="int8-dynamic",
        )  # fmt: skip
