"""What `python -m bench` makes of its measurements: losses checked, ratios, tables, the page."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import kept, page, plot
from bench.kept import ratio
from bench.measure import DEVIATION, Row, allow_rounding, check, summary
from bench.peers.registry import PEERS, choose
from bench.prepare import CHECKED_STEPS, Case, make_once, pack, reference_losses
from bench.table import table
from bench.workloads import WORKLOADS, Workload, loss


def row(ms: float, *, agrees: bool = True) -> Row:
    return {"ms": ms, "best_ms": ms, "deviation": 1e-7, "agrees": agrees, "rounds": 1, "steps": 9}


RUN: kept.Run = {
    "machine": {"processor": "abacus", "cores": 2},
    "rows": {
        "hearth wasm": row(2.0)
        | {
            "first_step_ms": 30.0,
            "code_bytes": 2048,
            "predict_ms": 0.5,
            "live": {"predictions_per_s": 120.0, "longest_ms": 9.5},
        },
        "tfjs wasm": row(8.0),
        "jax-js wasm": row(1.0, agrees=False),
        "ort wasm": {"error": "RuntimeError: it does not start"},
        "torch eager 1T": row(4.0),
    },
}


def test_losses_agree_up_to_rounding() -> None:
    found = check([2.0, 1.5 * (1 + 1e-6)], [2.0, 1.5])
    assert found["agrees"]
    assert found["deviation"] == pytest.approx(1e-6, rel=1e-6)


@pytest.mark.parametrize("wrong", [1.5 * (1 + 2 * DEVIATION), math.nan, math.inf])
def test_other_losses_do_not_agree(wrong: float) -> None:
    assert not check([2.0, wrong], [2.0, 1.5])["agrees"]


def test_a_deep_model_may_deviate_as_pytorch_in_float32_does() -> None:
    rows: dict[str, Row] = {
        name: {"deviation": deviation, "agrees": deviation <= DEVIATION}
        for name, deviation in (("torch eager 1T", 6e-3), ("a", 1.1e-2), ("b", 1.3e-2), ("c", 0.0))
    }
    allow_rounding(rows)
    assert [row["agrees"] for row in rows.values()] == [True, True, False, True]


def test_only_pytorch_in_float32_excuses_a_deviation() -> None:
    rows: dict[str, Row] = {"a": {"deviation": 6e-3, "agrees": False}, "b": {"error": "no"}}
    allow_rounding(rows)
    assert not rows["a"]["agrees"]


def test_a_missing_loss_is_no_agreement() -> None:
    with pytest.raises(ValueError, match="argument 2 is longer"):
        check([2.0], [2.0, 1.5])


def test_a_summary_takes_the_median_of_each_round() -> None:
    found = summary([[1.0, 2.0, 99.0], [4.0], [3.0, 3.0]])
    assert (found["ms"], found["best_ms"], found["rounds"], found["steps"]) == (3.0, 2.0, 3, 6)


def test_ratios_are_times_divided() -> None:
    assert ratio(RUN, "hearth wasm", "torch eager 1T") == 0.5


@pytest.mark.parametrize("peer", ["jax-js wasm", "ort wasm", "unknown"])
def test_what_computes_other_losses_or_fails_has_no_ratio(peer: str) -> None:
    assert ratio(RUN, peer, "torch eager 1T") is None
    assert ratio(RUN, "hearth wasm", peer) is None


def test_the_table_shows_ratios_failures_and_differences() -> None:
    printed = table(Case(WORKLOADS["mlp"], 32), "cpu", RUN).splitlines()
    lines = {line[:18].strip(): line for line in printed}
    assert "0.50×" in lines["hearth wasm"]
    assert "2.00×" in lines["tfjs wasm"]
    assert "DIFFERS" in lines["jax-js wasm"]
    assert "×" not in lines["jax-js wasm"]
    assert "it does not start" in lines["ort wasm"]


def test_the_page_has_every_run_and_the_machine() -> None:
    text = page.page({"mlp/1/cpu": [RUN], "mlp/32/cpu": [RUN], "lenet5/32/cpu": [RUN]})
    assert "| ms per step (÷ torch eager 1T) | batch 1 | batch 32 |" in text
    assert "| hearth wasm | 2.00 (0.50×) | 2.00 (0.50×) |" in text
    assert "| jax-js wasm | 1.00, other losses | 1.00, other losses |" in text
    assert "Batch 1, 32: ort wasm: RuntimeError: it does not start" in text
    assert "| 2 KiB | – | 0.500 ms | 1e-07 |" in text
    assert "| hearth wasm | 120 | 9.5 ms |" in text
    assert "| processor | abacus |" in text


def test_the_page_says_from_when_to_when_it_was_measured() -> None:
    days = [{"machine": {"date": f"day {day}"}, "rows": RUN["rows"]} for day in (2, 3, 1)]
    assert "| date | day 1 to day 3 |" in page.page({"mlp/32/cpu": days})


def test_times_have_three_digits() -> None:
    shown = [page.milliseconds(ms) for ms in (0.01234, 0.1234, 1.234, 99.96, 1234.5)]
    assert shown == ["0.012", "0.123", "1.23", "100.0", "1,234"]


def test_runs_on_the_gpu_are_relative_to_hearth() -> None:
    run = {"machine": {}, "rows": {"hearth webgpu": row(2.0), "tfjs webgpu": row(3.0)}}
    assert "| tfjs webgpu | 3.00 (1.50×) |" in page.page({"mlp/32/gpu": [run]})


def test_the_plot_leaves_gaps_where_there_is_no_ratio() -> None:
    heights = plot.bars({"mlp/32/cpu": [RUN]})
    assert set(heights) == {"hearth wasm", "tfjs wasm"}
    assert heights["hearth wasm"][0] == 0.5
    assert all(math.isnan(height) for height in heights["hearth wasm"][1:])


def test_a_run_replaces_what_it_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "KEPT", tmp_path / "docs" / "benchmarks.json")
    case = Case(WORKLOADS["mlp"], 32)
    torch_row = {"torch eager 1T": row(1.0)}
    kept.keep(case, "cpu", torch_row | {"tfjs wasm": row(4.0)}, "1.2")
    kept.keep(case, "gpu", {"hearth webgpu": row(1.0)}, "1.2")
    kept.keep(case, "cpu", {"torch eager 1T": row(2.0), "ort wasm": row(6.0)}, "1.3")
    runs = kept.read_runs()
    assert [list(run["rows"]) for run in runs["mlp/32/cpu"]] == [
        ["torch eager 1T", "tfjs wasm"], ["torch eager 1T", "ort wasm"],
    ]  # fmt: skip
    assert [run["machine"]["browser"] for run in runs["mlp/32/cpu"]] == [
        "Chromium 1.2", "Chromium 1.3",
    ]  # fmt: skip
    assert list(runs["mlp/32/gpu"][0]["rows"]) == ["hearth webgpu"]
    kept.keep(case, "cpu", torch_row | {"tfjs wasm": row(5.0)}, "1.4")
    (ort, tfjs) = kept.read_runs()["mlp/32/cpu"]
    assert list(ort["rows"]) == ["torch eager 1T", "ort wasm"]
    assert tfjs["rows"]["tfjs wasm"]["ms"] == 5.0


def test_a_peer_is_compared_within_its_own_run() -> None:
    older = {"machine": {}, "rows": {"torch eager 1T": row(4.0), "tfjs wasm": row(8.0)}}
    newer = {"machine": {}, "rows": {"torch eager 1T": row(2.0), "hearth wasm": row(1.0)}}
    text = page.page({"mlp/32/cpu": [older, newer]})
    assert "| tfjs wasm | 8.00 (2.00×)\\* |" in text
    assert "| torch eager 1T | 2.00 (1.00×) |" in text
    assert "| hearth wasm | 1.00 (0.50×) |" in text
    assert plot.bars({"mlp/32/cpu": [older, newer]})["tfjs wasm"][0] == 2.0


def test_peers_are_chosen_by_name_or_pattern_and_never_without_their_references() -> None:
    assert [p.name for p in choose(["ort", "torch compile 2T"])] == [
        "hearth wasm", "ort wasm", "ort wasm 2T", "torch eager 1T", "torch compile 2T",
    ]  # fmt: skip
    assert [p.name for p in choose(["jax-js webgpu"])] == ["hearth webgpu", "jax-js webgpu"]
    assert [p.name for p in choose(["ort wasm"])] == ["hearth wasm", "ort wasm", "torch eager 1T"]
    assert choose(["nothing"]) == []
    assert len(choose(["*"])) == len(PEERS)


def test_files_are_made_again_when_a_source_changes(tmp_path: Path) -> None:
    source, made = tmp_path / "source", []
    for text in ("a", "a", "b"):
        source.write_text(text)
        make_once(tmp_path / "made", [source], lambda: made.append(source.read_text()))
    assert made == ["a", "b"]


def test_arrays_are_packed_one_after_another() -> None:
    arrays = {"x": np.array([[1.5, 2.5]]), "y": np.array([3, 4, 5])}
    entries, block = pack(arrays)
    assert [entry["offset"] for entry in entries] == [0, 8]
    assert [entry["dtype"] for entry in entries] == ["float32", "int32"]
    assert json.loads(json.dumps(entries))[0]["shape"] == [1, 2]
    assert np.frombuffer(block, np.float32, 2).tolist() == [1.5, 2.5]
    assert np.frombuffer(block, np.int32, 3, 8).tolist() == [3, 4, 5]


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=list(WORKLOADS))
def test_a_workload_starts_from_the_same_weights_and_has_a_finite_loss(workload: Workload) -> None:
    model, again = workload.seeded_model(), workload.seeded_model()
    for first, second in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(first, second)
    x, y = workload.batches(2)[0]
    assert loss(model(x), y).isfinite()


def test_the_reference_trains() -> None:
    losses = reference_losses(Case(WORKLOADS["mlp"], 4))
    assert len(losses) == CHECKED_STEPS
    assert len(set(losses)) == CHECKED_STEPS
