"""Canonical forms: the many spellings of an operation in ATen become the one in `opset.CORE_OPS`.

Works on one concrete trace, where every extent is a plain integer.  An operation without a form
keeps its name and its named arguments.
"""

from __future__ import annotations

import hearth.capture.forms  # noqa: F401 (fills FORMS)
from hearth.capture.graph import AtenGraph
from hearth.capture.prune import prune
from hearth.capture.rewriter import FORMS, Rewriter


def canonicalize(graph: AtenGraph) -> AtenGraph:
    """The graph in canonical operations, without dead ones."""
    return prune(Rewriter(FORMS).run(prune(graph)))
