"""The last jobs that have ended in a queue in memory."""

from __future__ import annotations

from collections import deque

from asyncjobs.model.history import FinishedJob, Run, finished_job
from asyncjobs.model.job import State
from asyncjobs.model.refs import JobRef

__all__ = ["Finished"]


class Finished:
    """Owns them. The oldest goes when there are more than `most`."""

    def __init__(self, queue: str, most: int) -> None:
        self._queue = queue
        # rule:19 the ring keeps no more jobs than it may, in memory
        self.jobs: deque[FinishedJob] = deque(maxlen=most)
        self._total = 0

    def add(
        self, id: str, state: State, now: int, worker: str = "", run: Run | None = None
    ) -> None:
        """A job has ended."""
        if self.jobs.maxlen == 0:
            return
        self._total += 1
        job = finished_job(JobRef(self._queue, id), state, now, worker, run)
        self.jobs.append(job._replace(number=self._total))
