"""Rewrites above autograd: functions replaced by simpler ones before PyTorch differentiates them.

The gradient then comes for free, made of operations that we already have.  A rule takes the
function's own arguments and returns a tensor, or `NotImplemented` to leave the call alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

REWRITES: dict[Any, Callable[..., Any]] = {}
