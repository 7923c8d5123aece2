"""What a worker did, for whoever has run it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["WorkerReport"]


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker did: jobs taken, jobs given back at its end, threads left behind, how
    often it put back a job whose function it does not have, how often it lost its lease in a
    queue, and the bytes of memory that the process held if it ended for that."""

    taken: int
    released: int
    threads_left: int
    put_back: int = 0
    leases_lost: int = 0
    over_memory: int | None = None
