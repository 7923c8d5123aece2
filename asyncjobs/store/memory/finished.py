"""What a queue in memory keeps of its past: the last jobs that have ended, and figures."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from asyncjobs.model.figures import HOUR_MS, MINUTE_MS, OTHERS, Figures
from asyncjobs.model.history import FinishedJob, Run, finished_job
from asyncjobs.model.job import State
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.history import KEPT_HOURS, KEPT_MINUTES, MOST_FUNCTIONS

__all__ = ["Finished", "KeptFigures"]


class Finished:
    """Owns them. The oldest goes when there are more than `most`."""

    def __init__(self, queue: str, most: int) -> None:
        self._queue = queue
        # rule:19 the ring keeps no more jobs than it may, in memory
        self.jobs: deque[FinishedJob] = deque(maxlen=most)
        self.figures = KeptFigures()
        self._total = 0

    def clear(self) -> None:
        """Forget all of it: the queue is forgotten."""
        self.jobs.clear()
        self.figures = KeptFigures()

    def settled(self, settlement: Settlement, state: State, now: int, worker: str) -> None:
        """A worker has ended a job."""
        job = settlement.job
        self.add(job.id, state, now, worker, job.ready_ms, settlement.run)

    def add(
        self,
        id: str,
        state: State,
        now: int,
        worker: str = "",
        ready_ms: int = 0,
        run: Run | None = None,
    ) -> None:
        """A job has ended."""
        if self.jobs.maxlen == 0:
            return
        self._total += 1
        job = finished_job(JobRef(self._queue, id), state, now, worker, ready_ms, run)
        self.jobs.append(job._replace(number=self._total))


class KeptFigures:
    """Owns the figures of a queue: by minute for a day, and by hour for 30 days."""

    def __init__(self) -> None:
        self._kept: dict[int, dict[int, dict[str, Figures]]] = {MINUTE_MS: {}, HOUR_MS: {}}

    def add(self, figures: Iterable[Figures]) -> None:
        """Add what a worker has counted."""
        for each in figures:
            for unit_ms, most in ((MINUTE_MS, KEPT_MINUTES), (HOUR_MS, KEPT_HOURS)):
                self._add(unit_ms, most, each)

    def _add(self, unit_ms: int, most: int, figures: Figures) -> None:
        kept = self._kept[unit_ms]
        number = figures.at_ms // unit_ms
        if number not in kept:
            kept[number] = {}
            # rule:19 figures go after their time, in memory
            for old in [at for at in kept if at <= number - most]:
                del kept[old]
        by_name = kept[number]
        name = figures.function
        # rule:19 figures have a limit of functions, in memory
        if name not in by_name and len(by_name) >= MOST_FUNCTIONS:
            name = OTHERS
        # Never the worker's own histograms: it may go on with them.
        before = by_name.get(name)
        if before is None:
            before = Figures(figures.queue, name, number * unit_ms, 0, 0, {}, {})
        by_name[name] = before.plus(figures)

    def of(self, unit_ms: int, numbers: range) -> Iterator[Figures]:
        """Those of these minutes or hours since the epoch."""
        for number, by_name in self._kept[unit_ms].items():
            if number in numbers:
                yield from by_name.values()
