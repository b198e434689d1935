"""What the modules of a model return, call by call, while its forward pass runs.

PyTorch's forward hooks find the outputs and its gradient edges find the gradients, so nothing of
the model changes and an output that a later module overwrites is seen as it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from hearth.errors import InvalidInputError


@dataclass(frozen=True)
class Taps:
    """Which module outputs the program `inspect` looks at, and how.

    `modules` are names of `named_modules()`, all by default.  With `training` the model runs as in
    a training step, else in eval mode.  `values` keeps whole tensors readable, beside statistics
    and histograms: a program for small memory does without them.
    """

    modules: Sequence[str] | None = None
    training: bool = True
    values: bool = True


def as_taps(given: Taps | Sequence[str] | bool) -> Taps:
    """True is every module, a list is those modules."""
    if isinstance(given, Taps):
        return given
    if isinstance(given, str):
        raise InvalidInputError(f"inspect is {given!r}", remedy=f"pass a list: [{given!r}]")
    return Taps() if isinstance(given, bool) else Taps(tuple(given))


@dataclass(frozen=True)
class Response:
    """How a nonlinearity shows that a unit is of no use: by zeros, or by its ends."""

    silent: bool = False
    ends: tuple[float, float] | None = None


ROOT: Final = "(model)"  # PyTorch's name of the model itself is empty
_TANH, _SIGMOID = Response(ends=(-0.97, 0.97)), Response(ends=(0.015, 0.985))
RESPONSES: Final[dict[type[nn.Module], Response]] = {
    nn.ReLU: Response(silent=True),
    nn.ReLU6: Response(silent=True),
    nn.Hardswish: Response(silent=True),
    nn.Tanh: _TANH,
    nn.Softsign: _TANH,
    nn.Sigmoid: _SIGMOID,
    nn.Hardsigmoid: _SIGMOID,
}
# The same as functions; a call inside of a module of the table above is that module's.
_FUNCTIONS: Final[dict[Any, tuple[str, Response]]] = {
    function: (name, RESPONSES[kind])
    for name, kind, functions in (
        ("relu", nn.ReLU, (F.relu, F.relu_, torch.relu, torch.relu_, torch.Tensor.relu)),
        ("relu6", nn.ReLU6, (F.relu6,)),
        ("tanh", nn.Tanh, (F.tanh, torch.tanh, torch.Tensor.tanh)),
        ("sigmoid", nn.Sigmoid, (F.sigmoid, torch.sigmoid, torch.Tensor.sigmoid)),
    )
    for function in functions
}
_CHANNELS_FIRST: Final = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm,
)  # fmt: skip
_CHANNELS_LAST: Final = (
    nn.Linear, nn.LayerNorm, nn.Embedding, nn.MultiheadAttention, nn.RNNBase,
)  # fmt: skip


@dataclass(frozen=True)
class Tap:
    """One tensor that a call returned; `edge` is where its gradient arrives, if it has one."""

    name: str
    value: torch.Tensor
    edge: GradientEdge | None
    response: Response
    unit_axis: int


@dataclass(frozen=True)
class _Leaf:
    """A tensor that call number `call` of `owner` returned at `path`."""

    owner: str
    call: int
    path: str
    tensor: torch.Tensor
    version: int
    tap: Tap


@dataclass
class Recording:
    """What the calls within `recorded` returned, in their order."""

    chosen: frozenset[str] | None
    leaves: list[_Leaf] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    inside: list[tuple[str, nn.Module]] = field(default_factory=list)
    channels_first: bool = True  # the order of the last layer that has one

    @property
    def taps(self) -> list[Tap]:
        """`block#2[0]` is the first tensor of the second of several calls of `block`."""
        return [
            replace(leaf.tap, name=leaf.owner + self._number(leaf) + leaf.path)
            for leaf in self.leaves
        ]

    def note(self, owner: str, output: Any, response: Response) -> None:
        self.calls[owner] += 1
        if self.chosen is not None and owner not in self.chosen:
            return
        for path, tensor in pytree.tree_leaves_with_path(output):
            if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
                continue
            if tensor.numel() == 0 or (self.chosen is None and self._is_known(tensor)):
                continue
            edge = get_gradient_edge(tensor) if tensor.requires_grad else None
            # A copy, for a later module may overwrite what was returned.
            tap = Tap("", tensor.detach().clone(), edge, response, self._unit_axis(tensor))
            version, where = tensor._version, pytree.keystr(path)  # noqa: SLF001
            leaf = _Leaf(owner, self.calls[owner], where, tensor, version, tap)
            self.leaves.append(leaf)

    def _number(self, leaf: _Leaf) -> str:
        return f"#{leaf.call}" if self.calls[leaf.owner] > 1 else ""

    def _is_known(self, tensor: torch.Tensor) -> bool:
        version = tensor._version  # noqa: SLF001 (PyTorch has no other name for it)
        return any(x.tensor is tensor and x.version == version for x in self.leaves)

    def _unit_axis(self, tensor: torch.Tensor) -> int:
        """Where the units are: [B, C, ...] after convolutions, [B, ..., C] elsewhere."""
        return 1 if tensor.dim() > 3 or (tensor.dim() > 1 and self.channels_first) else -1


@contextmanager
def recorded(model: nn.Module, modules: Sequence[str] | None = None) -> Iterator[Recording]:
    """The taps of the forward pass within.

    A tap has the name of its module, and `block.relu()` is the function that `block` calls.
    Without `modules` a tensor that several return, as a Sequential does, is the first one's alone.

    Raises `InvalidInputError` for a module that does not exist or is not called.
    """
    recording = Recording(None if modules is None else frozenset(modules))
    names = {module: name or ROOT for name, module in model.named_modules()}

    def enter(module: nn.Module, _given: Any) -> None:
        recording.inside.append((names[module], module))

    def leave(module: nn.Module, _given: Any, output: Any) -> None:
        recording.inside.pop()
        if isinstance(module, _CHANNELS_FIRST):
            recording.channels_first = True
        elif isinstance(module, _CHANNELS_LAST):
            recording.channels_first = False
        recording.note(names[module], output, RESPONSES.get(type(module), Response()))

    with ExitStack() as stack:
        for module in names:
            stack.callback(module.register_forward_pre_hook(enter).remove)
            stack.callback(module.register_forward_hook(leave).remove)
        stack.enter_context(_Functions(recording))
        yield recording
    _check_called(recording)


class _Functions(TorchFunctionMode):
    """Notes what the functions of `_FUNCTIONS` return to the module that calls them."""

    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self.recording = recording

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        inside = self.recording.inside
        if func in _FUNCTIONS and inside and type(inside[-1][1]) not in RESPONSES:
            function, response = _FUNCTIONS[func]
            owner = inside[-1][0]
            name = f"{function}()" if owner == ROOT else f"{owner}.{function}()"
            self.recording.note(name, result, response)
        return result


def _check_called(recording: Recording) -> None:
    missing = sorted((recording.chosen or frozenset()) - {leaf.owner for leaf in recording.leaves})
    if missing:
        raise InvalidInputError(
            f"no call of {', '.join(map(repr, missing))} returns a tensor of floats",
            why="the forward pass does not call such a module of this model",
            remedy=f"the names are {', '.join(recording.calls)}",
        )
