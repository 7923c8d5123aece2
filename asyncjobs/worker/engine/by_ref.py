"""The attempts under way by the job that they are for, while somebody cancels jobs."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from asyncjobs.model.job import JobRef
from asyncjobs.worker.engine.attempt import Attempt

__all__ = ["AttemptsByRef"]

KEPT_FOR: Final = 10_000
"""Jobs that start without any cancel in between until the index is dropped."""


class AttemptsByRef:
    """Finds attempts by their job without looking through all that run.

    A fleet may cancel ten thousand running jobs one by one, and each look through all of
    them would block the loop for a minute. But an index costs each job a little, so it is
    made by the first cancel, and kept only while there are more.
    """

    __slots__ = ("_attempts", "_since_cancel")

    def __init__(self, attempts: Iterable[Attempt]) -> None:
        # A job may have two: one that has lost its lease and still ends, and its rerun.
        self._attempts: dict[JobRef, list[Attempt]] = {}
        self._since_cancel = 0
        for attempt in attempts:
            self._put(attempt)

    def _put(self, attempt: Attempt) -> None:
        self._attempts.setdefault(attempt.job.ref, []).append(attempt)

    def add(self, attempt: Attempt) -> bool:
        """False when nobody has cancelled anything for long: then it may be dropped."""
        self._put(attempt)
        self._since_cancel += 1
        return self._since_cancel < KEPT_FOR

    def remove(self, attempt: Attempt) -> None:
        """An attempt that was put in gives up its slot."""
        ref = attempt.job.ref
        attempts = self._attempts[ref]
        attempts.remove(attempt)
        if not attempts:
            del self._attempts[ref]

    def find(self, refs: Collection[JobRef]) -> list[Attempt]:
        """The attempts for these jobs; jobs that do not run here are ignored."""
        self._since_cancel = 0
        return [attempt for ref in refs for attempt in self._attempts.get(ref, ())]
