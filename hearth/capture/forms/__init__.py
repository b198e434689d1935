"""The canonical forms, one function per family of spellings; importing this fills the registry."""

from hearth.capture.forms import lookups, pointwise, pools, views

__all__ = ["lookups", "pointwise", "pools", "views"]
