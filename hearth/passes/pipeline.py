"""The passes, in order, each with the reason for its position."""

from __future__ import annotations

from collections.abc import Callable

from hearth.ir.graph import Graph
from hearth.ir.verify import verify
from hearth.passes.absorb_transposes import absorb_transposes
from hearth.passes.drop_empty import drop_empty
from hearth.passes.eliminate_common import eliminate_common
from hearth.passes.mark_triangles import mark_triangles
from hearth.passes.merge_batches import merge_batches
from hearth.passes.simplify_views import simplify_views

Pass = Callable[[Graph], Graph]

PASSES: tuple[Pass, ...] = (
    drop_empty,  # first: nobody else need think of extents of zero
    simplify_views,  # canonical views, so that equal values look equal
    merge_batches,  # leaves reshapes for the next
    simplify_views,
    absorb_transposes,  # needs composed permutations; leaves dots that read stored buffers
    simplify_views,  # an absorbed result may have left a reshape of a reshape
    eliminate_common,  # merges whatever the others made equal
    mark_triangles,  # last: what it knows of a value holds for these users
)


def run_passes(graph: Graph, trace: Callable[[str], None] | None = None) -> Graph:
    """Every pass in order; `trace` receives one line per pass."""
    for run in PASSES:
        before = len(graph.nodes)
        graph = verify(run(graph), after=run.__name__)
        if trace:
            after = len(graph.nodes)
            change = "unchanged" if after == before else f"{before} -> {after} nodes"
            trace(f"{run.__name__}: {change}")
    return graph
