"""An index of the running attempts by job, kept while somebody cancels jobs."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from asyncjobs.model.refs import JobRef
from asyncjobs.worker.engine.attempt import Attempt

__all__ = ["AttemptsByRef"]

KEPT_FOR: Final = 10_000
"""The index is dropped when this many jobs have started since the last cancel."""


class AttemptsByRef:
    """Finds the attempts of a job without a look at all that run.

    Somebody may cancel ten thousand running jobs one by one. If each cancel looked through all
    attempts, the loop would be blocked for a minute. But an index costs each job a little, so the
    first cancel makes it, and it is dropped when no more cancels come.
    """

    __slots__ = ("_attempts", "_since_cancel")

    def __init__(self, attempts: Iterable[Attempt]) -> None:
        # A job may have two: one that has lost its lease and is still ending, and its rerun.
        self._attempts: dict[JobRef, list[Attempt]] = {}
        self._since_cancel = 0
        for attempt in attempts:
            self._put(attempt)

    def _put(self, attempt: Attempt) -> None:
        self._attempts.setdefault(attempt.job.ref, []).append(attempt)

    def add(self, attempt: Attempt) -> bool:
        """False when the index may be dropped: there was no cancel for a long time."""
        self._put(attempt)
        self._since_cancel += 1
        return self._since_cancel < KEPT_FOR

    def remove(self, attempt: Attempt) -> None:
        """An attempt that was added has freed its slot."""
        ref = attempt.job.ref
        attempts = self._attempts[ref]
        attempts.remove(attempt)
        if not attempts:
            del self._attempts[ref]

    def find(self, refs: Collection[JobRef]) -> list[Attempt]:
        """The attempts for these jobs; jobs that do not run here are ignored."""
        self._since_cancel = 0
        return [attempt for ref in refs for attempt in self._attempts.get(ref, ())]
