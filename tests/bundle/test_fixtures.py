"""The fixtures in spec/, which both test suites read, are bundles by our own rules."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from hearth.bundle.manifest import Manifest
from hearth.bundle.read import read_bundle

SPEC = Path(__file__).parents[2] / "spec"
FIXTURES = sorted(path.parent for path in (SPEC / "fixtures").glob("*/manifest.json"))


def test_there_are_fixtures() -> None:
    assert FIXTURES


@pytest.mark.parametrize("folder", FIXTURES, ids=lambda path: path.name)
def test_a_fixture_is_read_verified_and_written_as_it_was(folder: Path) -> None:
    bundle = read_bundle(folder)
    bundle.verify_files()
    assert bundle.initial_state().keys() == {s.name for s in bundle.manifest.state}
    value = json.loads((folder / "manifest.json").read_text())
    assert bundle.manifest.to_json() == value
    assert Manifest.from_json(value) == bundle.manifest
    schema = json.loads((SPEC / "manifest.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(value)
