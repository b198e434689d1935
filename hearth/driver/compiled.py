"""The result of compiling, in memory: save it as a bundle folder, or run it right away."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hearth.bundle.files import write_file
from hearth.bundle.manifest import Manifest
from hearth.bundle.memory import needed_bytes
from hearth.bundle.write import write_bundle
from hearth.driver.graph_parts import ProgramGraph
from hearth.errors import BundleFormatError, InvalidInputError
from hearth.ir.kernel import Kernel
from hearth.steps.train_step import TrainStep

BUILD_SUFFIX: Final = ".build.pickle"


@dataclass(frozen=True)
class Build:
    """What a bundle's developer keeps beside its folder; never shipped, never needed to train.

    `step` is None for functions, and where the model cannot be pickled.
    """

    kernels: tuple[Kernel, ...]
    graphs: Mapping[str, ProgramGraph]
    step: TrainStep | None


@dataclass(frozen=True)
class Compiled:
    """A manifest, the files it describes, and what they were made from."""

    manifest: Manifest
    files: Mapping[str, bytes]
    kernels: tuple[Kernel, ...]
    graphs: Mapping[str, ProgramGraph]
    step: TrainStep | None

    def save(self, path: str | Path, *, runtime: bool = True) -> None:
        """Write the bundle folder, and beside it PATH.build.pickle for `verify` and `inspect`.

        `runtime` adds hearth.js and the types of this model to the folder.
        """
        write_bundle(path, self.manifest, self.files, runtime=runtime)
        write_file(build_file(path), self._pickled())

    def memory_bytes(self, batch: int, threads: int = 1, halves: bool = False) -> dict[str, int]:
        """By backend: exactly the memory to train on batches of up to `batch` samples.

        State, values, scratch memory of `threads` threads, and staging buffers.  `halves` is for a
        GPU that stores float16 numbers of mixed precision in two bytes (`shader-f16`).
        """
        return needed_bytes(self.manifest, batch, threads, halves)

    def _pickled(self) -> bytes:
        try:
            return pickle.dumps(Build(self.kernels, self.graphs, self.step))
        except (pickle.PicklingError, AttributeError, TypeError):
            # Models made of local classes or lambdas: `verify` then needs the step itself.
            return pickle.dumps(Build(self.kernels, self.graphs, None))


def build_file(path: str | Path) -> Path:
    """Beside the folder and not in it: a folder is uploaded as a whole."""
    folder = Path(path).resolve()
    return folder.with_name(folder.name + BUILD_SUFFIX)


def read_build(path: str | Path) -> Build:
    """The build beside a bundle.  It is a pickle: only read bundles that you compiled yourself."""
    file = build_file(path)
    if not file.is_file():
        raise BundleFormatError(
            f"there is no {file.name} beside {path}",
            why="the folder was moved without it, or written by another tool",
            remedy="compile the model again, or pass the training step itself",
        )
    try:
        build = pickle.loads(file.read_bytes())  # noqa: S301 (said in the docstring)
    except (ImportError, AttributeError) as error:
        raise InvalidInputError(
            f"the model in {file.name} cannot be imported here",
            why=str(error),
            remedy="name its training step (--step FILE.py:FUNCTION), or import its module first",
        ) from error
    assert isinstance(build, Build)
    return build


def step_of(bundle: str | Path | Compiled) -> TrainStep:
    """The training step that a bundle was compiled from; `InvalidInputError` where it has none."""
    step = bundle.step if isinstance(bundle, Compiled) else read_build(bundle).step
    if step is None:
        raise InvalidInputError(
            "the bundle does not contain its PyTorch model",
            why="functions have none, and models made of local classes cannot be pickled",
            remedy="pass it as step: hearth.TrainStep(...), or --step FILE.py:FUNCTION",
        )
    return step
