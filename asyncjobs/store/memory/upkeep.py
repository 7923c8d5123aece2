"""The coming and going of leases in one queue in memory, and what becomes of their jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from asyncjobs.model.job import TakenJob
from asyncjobs.store.answers import Placed
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.memory.ended import Ended
from asyncjobs.store.memory.entries import Entries
from asyncjobs.store.memory.structures import Timed
from asyncjobs.store.memory.waiting import Waiting

__all__ = ["Upkeep"]

Reclaim: TypeAlias = tuple[int, int, int | None]
"""Jobs returned, leases ended, and in how many ms to come back (None: no lease is left)."""


class Upkeep:
    """Enters, renews and ends the leases of a queue, and gives their jobs back.

    It works on parts that belong to the queue. It calls `signal` when jobs are ready again.
    """

    def __init__(
        self,
        leases: Entries,
        waiting: Waiting,
        ended: Ended,
        answers: Timed[list[Placed | None]],
        signal: Callable[[], None],
    ) -> None:
        self._leases = leases
        self._waiting = waiting
        self._ended = ended
        self._answers = answers
        self._signal = signal

    def register(self, lease: LeaseSpec, now: int) -> None:
        """Enter a lease."""
        self._touch(now, lease.grace_ms)
        self._leases.register(lease, now)

    def renew(self, lease: LeaseSpec, now: int, *, leaves: bool = False, info: bytes = b"") -> bool:
        """True when the lease was there, over or not. `leaves`: its worker was told to end."""
        self._touch(now, lease.grace_ms)
        return self._leases.renew(lease, now, leaves=leaves, info=info)

    def deregister(self, lease: LeaseSpec, crashed: Iterable[TakenJob], now: int) -> None:
        """Give back what the lease holds and end it; a crash only for those named."""
        # rule:7 a farewell charges only what the lease still holds, in memory
        charged = [job for taken in crashed if (job := self._leases.held(lease, taken)) is not None]
        # After the look at what it holds: without an entry a lease holds nothing.
        held = self._leases.remove(lease)
        if held is None or not held.jobs:
            return
        for job in charged:
            job.crashes += 1
        for job in list(held.jobs.values()):
            held.release(job)
            self._waiting.give_back(job, now)
        self._signal()

    def reclaim(self, grace_ms: int, limit: int, now: int, dead: str = "") -> Reclaim:
        """Give the jobs of leases back that are over, or whose id is `dead`."""
        self._touch(now, grace_ms)
        ended, again = self._leases.end_over(now, dead)
        returned = self._leases.release_leaving(limit)
        for job in returned:
            self._waiting.give_back(job, now)
        if returned:
            self._signal()
        return len(returned), ended, 0 if self._leases.leaving else again

    def prune(self, limit: int, now: int) -> int:
        """Drop dead letters over their age or number, and what nobody can ask for."""
        self._answers.drop_until(now)
        self._waiting.gates.keys.forget(now)
        return self._ended.prune(limit, now)

    def _touch(self, now: int, grace_ms: int) -> None:
        """Note that a worker was heard of, and follow a clock that was set back: ids of jobs
        that have ended would stay known for as long as the step."""
        back_ms = self._leases.touch(now, grace_ms)
        if back_ms:
            self._ended.pull_back(now + back_ms, back_ms)
            self._answers.pull_back(now + back_ms, back_ms)
            self._waiting.gates.pull_back(now + back_ms, back_ms, now)
