"""What is measured of asyncjobs beside the floor: one function a shape, one file a subject.

Each is run in a process of its own on an empty server (`python -m benchmarks run`), and
returns its figures by name, each with its unit. `size` scales what it does: 1 for figures
that count, less for a smoke.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from benchmarks.asking import Asking
from benchmarks.shapes.latencies import half_load, pickup, reclaim
from benchmarks.shapes.loads import mix, payloads, processes, waiting
from benchmarks.shapes.rates import bulk, enqueue, results, throughput
from benchmarks.shapes.running import Figures
from benchmarks.shapes.standing import backlog, idle, in_flight, store_cpu

__all__ = ["SHAPES", "Figures"]

SHAPES: Final[Mapping[str, Callable[[Asking, float], Awaitable[Figures]]]] = {
    "enqueue": enqueue,
    "throughput": throughput,
    "results": results,
    "bulk": bulk,
    "waiting": waiting,
    "pickup": pickup,
    "half-load": half_load,
    "mix": mix,
    "payloads": payloads,
    "processes": processes,
    "backlog": backlog,
    "reclaim": reclaim,
    "in-flight": in_flight,
    "idle": idle,
    "store-cpu": store_cpu,
}
