"""Where an operation comes from: the user's file and line, and the module that executes it.

A forward operation is placed by walking the Python stack to the first frame that is neither
PyTorch's nor ours.  A gradient operation has no such frame: it is placed through the sequence
number that autograd gave to the forward operation it differentiates.
"""

from __future__ import annotations

import sys
import sysconfig
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.fx import traceback as fx_traceback

UNKNOWN = "unknown line"
_FOREIGN = (
    str(Path(torch.__file__).parent),
    str(Path(__file__).parent.parent),
    sysconfig.get_paths()["stdlib"],
    "<",
)
_SITE_PACKAGES = sysconfig.get_paths()["purelib"]


def _is_users(filename: str) -> bool:
    in_library = filename.startswith(_FOREIGN)
    # site-packages lies inside the standard library's folder
    return not in_library or (
        filename.startswith(_SITE_PACKAGES) and not filename.startswith(_FOREIGN[:2])
    )


def _short(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name


def _sequence() -> int:
    """The number of the next autograd node."""
    return int(torch._C._autograd._get_sequence_nr())


class Origins:
    """Tells the current origin, and writes it on every FX node that is created from now on."""

    def __init__(self, modules: Mapping[torch.nn.Module, str], place: str | None = None) -> None:
        """`modules` names the modules; `place`, if given, is the origin of everything."""
        self._modules = {id(module): name for module, name in modules.items()}
        self._place = place
        self._of_sequence: dict[int, str] = {}
        self.calls: Counter[tuple[str, str]] = Counter()  # (origin, function), before the gradient
        self._is_forward = True
        self.current = place or UNKNOWN

    def enter(self, function: Any) -> int:
        """Note the calling line; returns autograd's sequence number for `leave`."""
        self._set(self._place or self._here())
        name = getattr(function, "__name__", "")
        if self._is_forward and name != "__get__":  # of a property, such as a shape
            self.calls[self.current, name] += 1
        return _sequence()

    def leave(self, sequence: int, origin: str) -> None:
        """Remember `origin` for every autograd node created since `enter`."""
        for number in range(sequence, _sequence()):
            self._of_sequence.setdefault(number, origin)

    def follow_gradient(self, root: Any) -> None:
        """Have every autograd node behind `root` announce its forward line when it runs."""
        self.end_forward()
        stack, seen = [root], set()
        while stack:
            node = stack.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            origin = self._of_sequence.get(node._sequence_nr(), UNKNOWN)
            node.register_prehook(lambda _, origin=origin: self._set(f"{origin}, gradient"))
            stack.extend(parent for parent, _ in node.next_functions)

    def end_forward(self) -> None:
        """From here on, what is called is not the model and its loss."""
        self._is_forward = False

    def of(self, error: BaseException) -> str:
        """The user's innermost line in the traceback of an error, else the current origin."""
        found, trace = self.current, error.__traceback__
        while trace is not None:
            frame = trace.tb_frame
            if _is_users(frame.f_code.co_filename):
                found = self._describe(frame, trace.tb_lineno, self._module(frame))
            trace = trace.tb_next
        return found

    def _set(self, origin: str) -> None:
        self.current = origin
        fx_traceback.set_stack_trace([origin])

    def _here(self) -> str:
        module: str | None = None
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            module = module or self._module(frame)
            if _is_users(frame.f_code.co_filename):
                return self._describe(frame, frame.f_lineno, module)
            frame = frame.f_back
        return UNKNOWN

    def _module(self, frame: FrameType) -> str | None:
        """The name of the module whose forward this frame is."""
        if frame.f_code.co_name != "forward":
            return None
        return self._modules.get(id(frame.f_locals.get("self")))

    def _describe(self, frame: FrameType, line: int, module: str | None) -> str:
        place = f"{_short(frame.f_code.co_filename)}:{line} in {frame.f_code.co_name}"
        return f"{place} (module {module})" if module else place
