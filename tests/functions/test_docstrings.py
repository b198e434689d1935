"""The examples in the docstrings are what the functions give; every public function has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest
import torch

from hearth import functions

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
    shown = {t.name.rpartition(".")[2] for t in tests}
    public = {
        name
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    }
    assert public <= shown
