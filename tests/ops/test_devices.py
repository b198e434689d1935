"""Every sample as a compiled bundle, on the devices themselves, against PyTorch in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import hearth
from tests.ops.oracle import assert_close, expected, representable
from tests.ops.samples import SAMPLES
from tests.ops.samples.sample import Sample

SEED = 0x1234_5678_9ABC_DEF0
BATCHES = (1, 5)  # 5 leaves a rest after vectors of four


@pytest.fixture(params=[pytest.param(d, marks=getattr(pytest.mark, d)) for d in ("wasm", "webgpu")])
def device(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:var.*degrees of freedom")
@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_a_compiled_sample_computes_what_pytorch_does(
    sample: Sample, device: str, tmp_path: Path
) -> None:
    examples = [narrow(t) for t in sample.draw(7, seed=0)]
    flags = [i.batched for i in sample.inputs]
    compiled = hearth.compile_function(sample.function, examples, batched=flags, backends=(device,))
    compiled.save(tmp_path, runtime=False)
    with hearth.open_runner(tmp_path, device, seed=SEED) as runner:
        for batch in BATCHES:
            tensors = [representable(t, np.float32) for t in sample.draw(batch, seed=batch)]
            results = runner.run("run", [narrow(t).numpy() for t in tensors])
            for k, want in enumerate(expected(sample, tensors, SEED, step=0)):
                assert_close(results[f"output/{k}"], want.numpy(), 2.0**-23)


def narrow(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
