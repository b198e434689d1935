"""One row per lowered operation and way of calling it: a small PyTorch function and its inputs.

The function is the oracle (eager, float64) and what is captured.  Extents are primes so that no
two can be confused; "B" is the batch.  A rule without a row here fails the suite.  A file is named
like the one of `hearth/lowering/` whose rules it samples.
"""

from __future__ import annotations

from tests.ops.samples import (
    contraction,
    convolution,
    elementwise,
    indexing,
    layout,
    ordering,
    pooling,
    random,
    reduction,
    scans,
)
from tests.ops.samples.sample import Sample

FAMILIES = (
    contraction,
    convolution,
    elementwise,
    indexing,
    layout,
    ordering,
    pooling,
    random,
    reduction,
    scans,
)
SAMPLES: list[Sample] = [sample for family in FAMILIES for sample in family.SAMPLES]
