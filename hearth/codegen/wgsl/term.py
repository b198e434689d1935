"""A piece of WGSL that stands for a value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Term:
    """Text, the depth of the innermost block it needs, and whether it can do without ()."""

    text: str
    depth: int = 0
    is_atomic: bool = True

    @property
    def operand(self) -> str:
        return self.text if self.is_atomic else f"({self.text})"
