"""The attempts under way by the job that they are for, while somebody cancels jobs."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from asyncjobs.job import JobRef
from asyncjobs.worker.run import Run

__all__ = ["RunsByRef"]

KEPT_FOR: Final = 10_000
"""Jobs that start without any cancel in between until the index is dropped."""


class RunsByRef:
    """Finds attempts by their job without looking through all that run.

    A fleet may cancel ten thousand running jobs one by one, and each look through all of
    them would block the loop for a minute. But an index costs each job a little, so it is
    made by the first cancel, and kept only while there are more.
    """

    __slots__ = ("_runs", "_since_cancel")

    def __init__(self, runs: Iterable[Run]) -> None:
        # A job may have two: one that has lost its lease and still ends, and its rerun.
        self._runs: dict[JobRef, list[Run]] = {}
        self._since_cancel = 0
        for run in runs:
            self._put(run)

    def _put(self, run: Run) -> None:
        self._runs.setdefault(run.job.ref, []).append(run)

    def add(self, run: Run) -> bool:
        """False when nobody has cancelled anything for long: then it may be dropped."""
        self._put(run)
        self._since_cancel += 1
        return self._since_cancel < KEPT_FOR

    def remove(self, run: Run) -> None:
        """An attempt that was put in gives up its slot."""
        ref = run.job.ref
        runs = self._runs[ref]
        runs.remove(run)
        if not runs:
            del self._runs[ref]

    def find(self, refs: Collection[JobRef]) -> list[Run]:
        """The attempts for these jobs; jobs that do not run here are ignored."""
        self._since_cancel = 0
        return [run for ref in refs for run in self._runs.get(ref, ())]
