"""Training steps that a command line names: `MODULE:FUNCTION` or `FILE.py:FUNCTION`."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from hearth.errors import InvalidInputError


def load_step(target: str) -> tuple[Any, Any, Any]:
    """(TrainStep, inputs, targets) from `MODULE:FUNCTION` or `FILE.py:FUNCTION`.

    Raises `InvalidInputError` where there is no such function, or it returns something else.
    """
    from hearth.steps.train_step import TrainStep

    place, separator, name = target.rpartition(":")
    if not separator or not place or not name:
        raise InvalidInputError(
            f"{target!r} does not name a function",
            remedy="write MODULE:FUNCTION or FILE.py:FUNCTION",
        )
    function = getattr(_import(place), name, None)
    if not callable(function):
        raise InvalidInputError(f"{place} has no function {name!r}")
    result = function()
    if isinstance(result, tuple) and len(result) == 3 and isinstance(result[0], TrainStep):
        return result
    raise InvalidInputError(
        f"{target} returned {type(result).__name__}",
        remedy="return (hearth.TrainStep(…), example_inputs, example_targets)",
    )


def _import(place: str) -> ModuleType:
    path = Path(place)
    sys.path[:0] = [str(path.parent if path.suffix == ".py" else Path.cwd())]
    try:
        if path.suffix != ".py":
            return import_module(place)
        spec = spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise InvalidInputError(f"there is no file {path}")
        module = module_from_spec(spec)
        sys.modules[path.stem] = module  # models are pickled by the name of their module
        spec.loader.exec_module(module)
        return module
    except ModuleNotFoundError as error:
        raise InvalidInputError(f"cannot import {place}", why=str(error)) from error
