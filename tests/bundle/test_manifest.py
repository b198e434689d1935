"""The manifest: round trip, types, the rules that types cannot say, and versions."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from hearth.bundle.check_manifest import check_manifest
from hearth.bundle.manifest import FileEntry, Manifest
from hearth.bundle.memory import plan_memory
from hearth.errors import BundleFormatError
from tests.bundle.samples import LOSS, MANIFEST, TRAIN, files

COMPLETE = replace(
    MANIFEST, files={name: FileEntry(len(data), "0" * 64) for name, data in files().items()}
)
SCHEMA = Path(__file__).parents[2] / "spec" / "manifest.schema.json"


def changed(path: str, value: Any) -> dict[str, Any]:
    """The sample's JSON with one field set; the value `...` removes it."""
    result = copy.deepcopy(COMPLETE.to_json())
    *parents, last = [int(p) if p.isdigit() else p for p in path.split("/")]
    place: Any = result
    for parent in parents:
        place = place[parent]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return result


def test_a_manifest_survives_the_way_through_json() -> None:
    again = Manifest.from_json(json.loads(COMPLETE.to_bytes()))
    assert again == COMPLETE
    assert again.to_bytes() == COMPLETE.to_bytes()
    check_manifest(again)


def test_a_manifest_is_what_the_schema_says() -> None:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(COMPLETE.to_json())


def test_absent_parts_are_left_out_of_the_json() -> None:
    bare = replace(COMPLETE, wasm=None, wgsl=None, golden=None, optimizer=None)
    assert {"wasm", "wgsl", "golden", "optimizer"}.isdisjoint(bare.to_json())
    assert Manifest.from_json(bare.to_json()) == bare


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format", "other", "not a Hearth bundle"),
        ("version", 2, "manifest.version is 2, this Hearth reads up to 1"),
        ("version", True, "manifest.version: expected a positive integer"),
        ("version", 0, "manifest.version: expected a positive integer"),
        ("compiler", ..., "manifest.compiler is missing"),
        ("random", 1.5, "manifest.random: expected an integer"),
        ("random", True, "manifest.random: expected an integer"),
        ("extra", 1, "manifest.extra: expected no such field"),
        ("state/0/role", "weight", "manifest.state[0].role: expected one of"),
        ("state/0/dtype", "float16", "manifest.state[0].dtype"),
        ("state/0/shape", [3, "4"], "manifest.state[0].shape[1]: expected an integer"),
        ("state/0/shape", 12, "manifest.state[0].shape: expected a list"),
        ("state/0/trainable", 1, "manifest.state[0].trainable: expected true or false"),
        ("buffers/0/shape", [[0, 1.0]], "manifest.buffers[0].shape[0]"),
        ("buffers/0/shape", [[]], "manifest.buffers[0].shape[0]"),
        ("programs/train/steps", {}, "manifest.programs.train.steps: expected a list"),
        ("programs/train/steps/0/kernel", ..., "manifest.programs.train.steps[0].kernel is miss"),
        ("programs/train/inputs/1/range", [0], "inputs[1].range: expected a list of 2"),
        ("optimizer/groups/0/learning_rate", "fast", "groups[0].learning_rate: expected a finite"),
        ("files/program.wasm", 3, "manifest.files.program.wasm: expected an object"),
        ("wasm/variants/0/features", ["mmx"], "manifest.wasm.variants[0].features[0]"),
    ],
)
def test_a_field_of_a_wrong_type_is_named_by_its_path(path: str, value: Any, message: str) -> None:
    with pytest.raises(BundleFormatError) as caught:
        Manifest.from_json(changed(path, value))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("files/..", {"bytes": 1, "sha256": ""}, "leaves it or is hidden"),
        ("files/a~b", {"bytes": 1, "sha256": ""}, None),
        ("files/a\\b", {"bytes": 1, "sha256": ""}, "leaves it or is hidden"),
        ("golden/file", "none", "golden.file: 'none' is not among the bundle's files"),
        ("wgsl/file", "none", "wgsl.file"),
        ("wasm/variants/0/file", "none", "wasm.variants[0].file"),
        ("state/1/name", "fc.weight", "state[1].name: 'fc.weight' occurs twice"),
        ("state/0/offset", 2, "state[0].offset: 2 is not a multiple of 4"),
        ("state/0/offset", -4, "state[0].offset"),
        ("state/0/shape", [-3, 4], "state[0].shape"),
        ("state/0/shape", [3000, 4], "'fc.weight' ends after state_bytes"),
        ("state/0/trainable", ..., "state[0].trainable"),
        ("state/2/persistent", ..., "state[2].persistent"),
        ("state/4/name", "exp_avg", "state[4].name: 'exp_avg' is not KEY/PARAMETER"),
        ("state/5/dtype", "float32", "the step counter is one int32"),
        ("state/6/shape", [1], "a seed is two uint32"),
        ("buffers/0/offset", 0, "buffers[0]: needs either offset or slot"),
        ("buffers/4/offset", ..., "buffers[4]: needs either offset or slot"),
        ("buffers/4/offset", 6, "buffers[4].offset: 6 is not a multiple of 4"),
        ("buffers/4/offset", 16, "offset 16 of a kernel's buffer is not a multiple of 256"),
        ("buffers/4/offset", 1536, "buffers[4].offset: ends after state_bytes"),
        ("buffers/4/shape", [[0, 1]], "the state region does not grow with the batch"),
        ("kernels/1/name", "fc_forward", "kernels[1].name: 'fc_forward' occurs twice"),
        ("kernels/0/workgroups/1/per", 0, "kernels[0].workgroups[1].per: 0 is not positive"),
        ("programs/train/steps/0/kernel", 9, "steps[0].kernel: there is no kernel 9"),
        ("programs/train/steps/0/buffers", [0, 9], "steps[0].buffers[1]: there is no buffer 9"),
        ("programs/train/steps/0/buffers", [0, 0], "lie in the same slot"),
        ("programs/train/steps/0/buffers", [4, 4], "overlap at byte 0"),
        ("programs/train/inputs/0/buffer", -1, "inputs[0].buffer: there is no buffer -1"),
        ("programs/train/inputs/0/shape", [[0, 5]], "inputs[0].shape: buffer 0 has another"),
        ("programs/train/outputs/0/buffer", 6, "outputs[0].buffer: there is no buffer 6"),
        ("programs/train/outputs/1/role", "metric", "outputs[1].shape: the shape of a metric does"),
        (
            "programs/train/outputs/0",
            {"name": "n", "role": "metric", "dtype": "int32", "shape": [], "buffer": LOSS},
            "outputs[0].dtype: a metric is float32",
        ),
        ("programs/train/slots", [], "slot 0, which the program does not have"),
        ("programs/train/slots/0", [[0, 12]], "(16*B bytes) does not fit into slot 0"),
        ("programs/train/above", [[], [0], [1]], "above: has 3 entries for 5 slots"),
        ("programs/train/above", [[], [0], [1], [3], []], "above[3]: names a slot that is not"),
        ("optimizer/groups/0/parameters", ["no"], "there is no parameter 'no'"),
    ],
)
def test_a_breach_of_the_contract_is_named_by_its_path(
    path: str, value: Any, message: str | None
) -> None:
    manifest = Manifest.from_json(changed(path, value))
    if message is None:
        check_manifest(manifest)
        return
    with pytest.raises(BundleFormatError) as caught:
        check_manifest(manifest)
    assert message in str(caught.value)


def test_a_buffer_in_a_slot_belongs_to_one_program() -> None:
    twice = replace(COMPLETE, programs={"train": TRAIN, "evaluate": TRAIN})
    with pytest.raises(BundleFormatError, match="lies in slots of train and evaluate"):
        check_manifest(twice)


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_the_memory_plan_places_slots_one_after_another(batch: int) -> None:
    plan = plan_memory(COMPLETE, batch)
    sizes = [max(16 * batch, 1), 4 * batch, max(12 * batch, 48), 4, 4]
    aligned = [-(-size // 256) * 256 for size in sizes]
    start = 1792  # state_bytes 1544, rounded up to 256
    assert plan.slots["train"] == tuple(start + sum(aligned[:i]) for i in range(5))
    assert plan.arena_bytes == start + sum(aligned)
    assert plan.offset_of(COMPLETE, "train", 4) == 0
    assert plan.offset_of(COMPLETE, "train", 1) == plan.slots["train"][1]


def test_a_slot_begins_where_the_highest_of_those_ends_that_it_lies_above() -> None:
    train = replace(TRAIN, above=((), (), (0, 1), (0,), ()))
    plan = plan_memory(replace(COMPLETE, programs={"train": train}), 64)
    x, y, logits = 16 * 64, 4 * 64, 12 * 64
    assert plan.slots["train"] == tuple(1792 + start for start in (0, 0, x, x, 0))
    assert plan.arena_bytes == 1792 + x + logits
    assert y < x
