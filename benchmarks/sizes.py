"""How many jobs each shape is measured with. Nothing of asyncjobs: the floor reads it too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["CONCURRENCIES", "ENQUEUES", "JOBS", "count", "in_words"]

CONCURRENCIES: Final = (1, 10, 100, 1_000)
ENQUEUES: Final = ("one caller", "100 callers")

JOBS: Final[Mapping[str, tuple[int, ...]]] = {
    "enqueue": (5_000, 50_000),
    "throughput": (2_000, 20_000, 20_000, 20_000),
    "results": (2_000, 20_000, 20_000, 20_000),
    "bulk": (100_000,),
    "waiting": (5_000,),
    "pickup": (1_000,),
    "half-load": (1_000,),
    "mix": (20_000,),
    "payloads": (20_000, 20_000, 1_000),
    "processes": (100_000, 100_000, 100_000),
    "backlog": (10_000, 1_000_000),
    "reclaim": (10_000,),
    "in-flight": (1_000, 10_000, 100_000),
    "idle": (0,),
    "store-cpu": (50_000,),
}
"""By shape, in the order of its figures."""


def count(full: int, size: float) -> int:
    """So many jobs of `full`: size 1 for figures that count, less for a smoke."""
    return max(10, int(full * size))


def in_words(shape: str, size: float) -> str:
    """The jobs of one shape, as they stand under a table."""
    return " / ".join(f"{count(jobs, size) if jobs else 0:,}" for jobs in JOBS[shape])
