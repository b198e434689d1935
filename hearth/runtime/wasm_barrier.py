"""The barrier of a bundle's threads (spec/manifest.md, "WebAssembly"), for a thread that broke off.

The others wait at the barrier for ever, because it counts the threads that arrive.  A stand-in
arrives in place of the one that broke off, so that the others come to their end and the error can
be raised; what they compute meanwhile is of no use.  Python has no atomic access to memory, so the
stand-in is WebAssembly too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import wasmtime

ARRIVALS: Final = 1088
_STAND_IN: Final = """
(module
  (import "env" "memory" (memory 0 65536 shared))
  ;; Arrives, and returns the generation of the threads that are waited for.
  (func (export "arrive") (param $threads i32) (result i32)
    (local $generation i32)
    (local.set $generation (i32.atomic.load (i32.const 1152)))
    (if (i32.eq (local.get $threads)
                (i32.add (i32.atomic.rmw.add (i32.const 1088) (i32.const 1)) (i32.const 1)))
      (then
        (i32.atomic.store (i32.const 1088) (i32.const 0))
        (i32.atomic.store (i32.const 1152) (i32.add (local.get $generation) (i32.const 1)))
        (drop (memory.atomic.notify (i32.const 1152) (i32.const -1)))))
    (local.get $generation))
  ;; Whether the generation is still the same after a millisecond at most.
  (func (export "waits") (param $generation i32) (result i32)
    (drop (memory.atomic.wait32 (i32.const 1152) (local.get $generation) (i64.const 1000000)))
    (i32.eq (i32.atomic.load (i32.const 1152)) (local.get $generation))))
"""


def stand_in(
    engine: wasmtime.Engine, memory: Any, threads: int, others_work: Callable[[], bool]
) -> None:
    """Arrives at every barrier in place of a thread that broke off, while `others_work`."""
    store = wasmtime.Store(engine)
    module = wasmtime.Module(engine, _STAND_IN)
    exports: Any = wasmtime.Instance(store, module, [memory]).exports(store)
    while others_work():
        generation = exports["arrive"](store, threads)
        while others_work() and exports["waits"](store, generation):
            pass
