"""Names of the `hyper` inputs of programs (spec/manifest.md): numbers of a run, not of a sample."""

from __future__ import annotations

from typing import Final

LEARNING_RATE: Final = "learning_rate"
MICRO_BATCH: Final = "micro_batch"
MICRO_BATCHES: Final = "micro_batches"
