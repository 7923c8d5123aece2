"""Settlements on their way to the store, in the order in which attempts ended."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from asyncjobs.model.job import TakenJob
from asyncjobs.model.settlement import MOST_EFFECT_JOBS, Settlement

__all__ = ["Unsettled"]

COUNT_LIMIT: Final = 512
BYTES_LIMIT: Final = 4 * 1024 * 1024
"""The most that one exchange carries: a result may have a megabyte."""


class Unsettled:
    """Owns the settlements that were not sent yet. Bounded by the number of jobs held."""

    __slots__ = ("_waiting", "alone", "append")

    def __init__(self) -> None:
        self.alone = 0
        """How many of the next settlements go alone: one of them may be a misfit."""
        self._waiting: list[Settlement] = []
        self.append = self._waiting.append

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> list[Settlement]:
        """The next ones for an exchange, out of here."""
        if self.alone:
            self.alone = min(self.alone, len(self._waiting))
            taken = self._waiting[:1]
            del self._waiting[:1]
            self.alone -= len(taken)
            return taken
        count = size = jobs = 0
        # rule:11 what an exchange settles is bounded
        for settlement in self._waiting[:COUNT_LIMIT]:
            if settlement.outcome is not None or settlement.envelope:
                size += len(settlement.outcome or b"") + len(settlement.envelope)
                size += len(settlement.dead_letter or b"")
            if settlement.effects is not None:
                size += sum(len(job.envelope) for job in settlement.effects.jobs)
                jobs += len(settlement.effects.jobs)
            if (size > BYTES_LIMIT or jobs > MOST_EFFECT_JOBS) and count:
                break
            count += 1
        taken = self._waiting[:count]
        del self._waiting[:count]
        return taken

    def put_back(self, settlements: list[Settlement]) -> None:
        """Ones that did not take effect, or that others wait for, before all others."""
        self._waiting[:0] = settlements

    def drop(self, queues: Collection[str]) -> None:
        """Forget those of queues whose jobs belong to others now."""
        self._waiting[:] = [s for s in self._waiting if s.job.queue not in queues]

    def jobs(self) -> list[TakenJob]:
        """The jobs that these settlements are for."""
        return [settlement.job for settlement in self._waiting]
