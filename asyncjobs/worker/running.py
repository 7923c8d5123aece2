"""The attempts that are under way, and what can be done to them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from asyncjobs.context import JobContext
from asyncjobs.guarded import GuardedLog
from asyncjobs.job import JobRef, TakenJob
from asyncjobs.policy.suspects import SuspectBounds
from asyncjobs.worker.by_ref import RunsByRef
from asyncjobs.worker.run import Reason, Run

__all__ = ["Running"]

logger = GuardedLog("asyncjobs.worker")


class Running:
    """Owns the runs and, through them, their tasks; settles nothing."""

    def __init__(self, slots: int, max_crashes: int) -> None:
        # Dicts for their order: what is stopped or given back goes by age.
        self._runs: dict[Run, None] = {}
        self._suspects: dict[Run, None] = {}
        self._by_ref: RunsByRef | None = None
        self._stuck: set[Run] = set()
        self._bounds: Final = SuspectBounds(slots, max_crashes)
        self._notes: dict[JobContext, bytes] = {}
        # Called from any thread; storing into a dict is one step.
        self.note = self._notes.__setitem__

    def __len__(self) -> int:
        return len(self._runs)

    def __contains__(self, run: Run) -> bool:
        return run in self._runs

    def add(self, run: Run) -> None:
        self._runs[run] = None
        if run.job.crashes:
            self._suspects[run] = None
        if self._by_ref is not None and not self._by_ref.add(run):
            self._by_ref = None

    def remove(self, run: Run) -> bool:
        """False when it was abandoned before: then its end is nobody's business."""
        if run not in self._runs:
            self._stuck.discard(run)
            return False
        del self._runs[run]
        if run.job.crashes:
            self._suspects.pop(run, None)
        if self._by_ref is not None:
            self._by_ref.remove(run)
        return True

    def jobs(self) -> Iterator[TakenJob]:
        return (run.job for run in self._runs)

    def room(self, taken: Collection[TakenJob]) -> tuple[int, ...]:
        """How many jobs that were running when a worker died may be taken now, beside those
        that run and those that are `taken` and have not started. See `Demand`."""
        crashes = [run.job.crashes for run in self._suspects]
        crashes += [job.crashes for job in taken if job.crashes]
        return self._bounds.room(crashes)

    def cancel(self, refs: Collection[JobRef]) -> None:
        """A user wants these jobs to stop; ones that are not here are ignored."""
        if not refs:
            return
        if self._by_ref is None:
            self._by_ref = RunsByRef(self._runs)
        for run in self._by_ref.find(refs):
            run.stop(Reason.CANCEL)

    def lose(self, queues: Collection[str]) -> int:
        """Stop what belongs to other workers now; returns how many."""
        lost = [run for run in self._runs if run.job.queue in queues]
        for run in lost:
            run.stop_again(Reason.LEASE_LOST)
        return len(lost)

    def release(self) -> None:
        """Stop everything; the jobs are given back."""
        for run in list(self._runs):
            run.stop_again(Reason.SHUTDOWN)

    def abandon(self) -> list[Run]:
        """Let go of all attempts, which swallow their cancellation, and return them."""
        stuck = list(self._runs)
        for run in stuck:
            logger.error("%s: stuck, it ignores its cancellation", run.job.ref, extra=run.label)
            self.let_go(run)
        return stuck

    def stubborn(self, since_s: float) -> list[Run]:
        """Those told to stop at `since_s` or before that go on all the same.

        A thread cannot be stopped at all and keeps its slot; what is left at a shutdown
        is abandoned there.
        """
        return [
            run
            for run in self._runs
            if run.stopped_s <= since_s
            and run.function.is_async
            and run.reason is not Reason.SHUTDOWN
        ]

    def let_go(self, run: Run) -> None:
        """Its slot is free; the task is kept until it ends, for nobody else holds it."""
        run.is_abandoned = True
        if self.remove(run):
            self._stuck.add(run)

    def find(self, context: JobContext) -> Run | None:
        """The attempt with this context, while it holds its slot. From any thread."""
        return next((run for run in list(self._runs) if run.is_about(context)), None)

    def in_threads(self) -> list[Run]:
        """The attempts of sync functions that have a thread. From any thread."""
        return [run for run in list(self._runs) if not run.function.is_async and run.has_begun]

    def take_notes(self) -> list[tuple[TakenJob, bytes]]:
        """The newest progress of each attempt, since the last call."""
        notes = [self._notes.popitem() for _ in range(len(self._notes))]
        if not notes:
            return []
        jobs = {run.context: run.job for run in self._runs if run.has_context}
        return [(jobs[context], note) for context, note in notes if context in jobs]
