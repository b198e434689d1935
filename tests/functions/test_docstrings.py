"""Every public function, and class of transforms, has an example that holds, and a place in
docs/functions.md.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

from hearth import functions

PAGE = Path(__file__).parents[2] / "docs" / "functions.md"
MODULES = [
    importlib.import_module(f"{functions.__name__}.{found.name}")
    for found in pkgutil.iter_modules(functions.__path__)
]


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__.rpartition(".")[2])
def test_the_examples_of_a_module_hold(module: ModuleType) -> None:
    torch.manual_seed(0)
    tests = [t for t in doctest.DocTestFinder().find(module) if t.examples]
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in tests:
        test.globs["torch"] = torch
        assert runner.run(test).failed == 0, test.name
    assert public_names(module) <= {t.name.rpartition(".")[2] for t in tests}


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__.rpartition(".")[2])
def test_the_page_lists_every_function_of_a_module(module: ModuleType) -> None:
    name = module.__name__.rpartition(".")[2]
    (row,) = [line for line in PAGE.read_text().splitlines() if line.startswith(f"| `{name}` |")]
    assert set(re.findall(r"`(\w+)`", row)) == {name, *public_names(module)}


def public_names(module: ModuleType) -> set[str]:
    return {
        name
        for name, found in inspect.getmembers(module, is_called)
        if found.__module__ == module.__name__ and not name.startswith("_")
    }


def is_called(found: object) -> bool:
    """Functions, and classes whose objects are called."""
    is_transform = isinstance(found, type) and (
        "__call__" in vars(found) or issubclass(found, torch.nn.Module)
    )
    return inspect.isfunction(found) or is_transform
