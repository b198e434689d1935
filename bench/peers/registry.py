"""All peers, in the order in which they are shown, and the choice of some."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from typing import Final

from bench.kept import BASELINES, OURS
from bench.peers import Peer, hearth, jax, ort, pytorch, tfjs

PEERS: Final = (*hearth.PEERS, *tfjs.PEERS, *jax.PEERS, *ort.PEERS, *pytorch.PEERS)
ORDER: Final = {peer.name: i for i, peer in enumerate(PEERS)}


def choose(patterns: Sequence[str]) -> list[Peer]:
    """Peers by name, by how names begin ("torch eager"), or by shell patterns ("*2T").

    Those that ratios are formed with are in the run of a device whenever another peer is.
    """
    chosen = {p.name for p in PEERS if any(_fits(p.name, pattern) for pattern in patterns)}
    for peer in PEERS:
        if peer.name in chosen:
            chosen |= {BASELINES[peer.device], OURS[peer.device]}
    return [peer for peer in PEERS if peer.name in chosen]


def _fits(name: str, pattern: str) -> bool:
    is_name = pattern in ORDER
    return fnmatch(name, pattern) or (not is_name and name.startswith(pattern + " "))


def in_order(names: Iterable[str]) -> list[str]:
    """Names once each, as they are shown; unknown ones last."""
    return sorted(dict.fromkeys(names), key=lambda name: ORDER.get(name, len(ORDER)))
