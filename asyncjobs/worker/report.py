"""What a worker has done in one run."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["WorkerReport"]


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker has done in one run.

    taken: how many jobs it has taken.
    released: how many jobs it has given back at its end.
    threads_left: how many threads of sync jobs still run.
    put_back: how often it has put back a job because it does not know its function.
    leases_lost: how often it has lost its lease in a queue.
    over_memory: the bytes that the process held, if the worker has ended for that.
    """

    taken: int
    released: int
    threads_left: int
    put_back: int = 0
    leases_lost: int = 0
    over_memory: int | None = None
