"""Whole training steps, loss read back: Hearth, other browser frameworks, native PyTorch.

    python -m bench                                      a quick set of workloads and batches
    python -m bench --full                               everything; takes an hour or more
    python -m bench --workloads mlp,cnn --batches 32     what is named, and nothing else
    python -m bench --peers ort,"torch eager","*2T"      some peers: names begin so, or patterns
    python -m bench --page                               only writes the page from what is kept

One run is one workload at one batch size with all chosen peers of one device (the CPU, or WebGPU),
in interleaved rounds.  Hearth and PyTorch eager are in every run, so that large workloads can be
measured some peers at a time.  Runs are kept in docs/benchmarks.json, of each peer the newest.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from typing import Final

from bench.browser import build_pages
from bench.kept import DEVICES, keep, read_runs
from bench.measure import measure
from bench.page import PAGE, PLOT, write_page
from bench.peers import Peer
from bench.peers.registry import choose
from bench.plot import write_plot
from bench.prepare import ROOT, Case, prepare
from bench.table import table
from bench.workloads import WORKLOADS

QUICK_BATCHES: Final[tuple[int, ...]] = (32,)
FULL_BATCHES: Final[tuple[int, ...]] = (1, 16, 32, 64, 128)


def main() -> None:
    options = parser().parse_args()
    warnings.simplefilter("ignore")
    sizes = FULL_BATCHES if options.full else QUICK_BATCHES
    sizes = tuple(map(int, options.batches.split(","))) if options.batches else sizes
    names = options.workloads.split(",") if options.workloads else list(WORKLOADS)
    peers = choose(options.peers.split(","))
    cases = [Case(WORKLOADS[name], rows) for name in names for rows in sizes]
    if options.page:
        write()
        return
    build_pages()
    for case in cases:
        prepare_all(case, peers)
    if options.prepare:
        return
    for case in cases:
        for device in DEVICES:
            those = [peer for peer in peers if peer.device == device]
            if those:
                rows, browser = measure(case, those, rounds=options.rounds,
                                        seconds=options.seconds, limit_s=options.limit)  # fmt: skip
                run = keep(case, device, rows, browser)
                print(table(case, device, run), flush=True)
    write()


def write() -> None:
    """The page, and its plot where matplotlib is installed."""
    runs = read_runs()
    try:
        write_plot(runs, PLOT)
    except ImportError:
        print("no plot: it needs matplotlib (pip install -e '.[bench]')", file=sys.stderr)
    write_page(runs)
    print(f"{PAGE.relative_to(ROOT)} is written")


def prepare_all(case: Case, peers: list[Peer]) -> None:
    prepare(case)
    for peer in peers:
        try:
            peer.prepare(case)
        except Exception as error:
            print(f"{peer.name}, {case.key}: cannot be prepared: {error}", file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument("--workloads", metavar="NAME,…", help=", ".join(WORKLOADS))
    made.add_argument("--batches", metavar="N,…", help="default: 32; with --full 1,16,32,64,128")
    made.add_argument("--peers", metavar="NAME,…", default="*", help="default: all")
    made.add_argument("--full", action="store_true", help="all batch sizes")
    made.add_argument("--rounds", type=int, default=5, help="interleaved rounds (5)")
    made.add_argument("--seconds", type=float, default=0.2, help="of a peer in a round (0.2)")
    made.add_argument("--limit", type=float, default=600, help="seconds for all rounds (600)")
    made.add_argument("--page", action="store_true", help="only write the page")
    made.add_argument("--prepare", action="store_true", help="only compile, export and install")
    return made


if __name__ == "__main__":
    main()
