"""The attempts that run, and what can be done to them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.jobs.context import JobContext
from asyncjobs.jobs.isolation import Isolation
from asyncjobs.model.job import TakenJob
from asyncjobs.model.refs import JobRef
from asyncjobs.policy.suspects import SuspectBounds
from asyncjobs.worker.engine.attempt import Attempt, Reason
from asyncjobs.worker.engine.away import Away
from asyncjobs.worker.engine.by_ref import AttemptsByRef

__all__ = ["Running"]

logger = GuardedLog("asyncjobs.worker")


class Running:
    """Owns the attempts that hold a slot and, through them, their tasks. Settles nothing."""

    def __init__(self, slots: int, max_crashes: int) -> None:
        # Dicts keep the order: attempts are stopped and given back by age.
        self._attempts: dict[Attempt, None] = {}
        self._suspects: dict[Attempt, None] = {}
        self._by_ref: AttemptsByRef | None = None
        self._stuck: set[Attempt] = set()
        self._bounds: Final = SuspectBounds(slots, max_crashes)
        self.away: Final = Away(slots, self.__contains__, self.__len__)
        self._united: dict[Attempt, Sequence[Attempt]] = {}
        self._notes: dict[JobContext, bytes] = {}
        # Jobs call it from any thread. To store into a dict is one step, so it needs no lock.
        self.note = self._notes.__setitem__

    def __len__(self) -> int:
        return len(self._attempts)

    def __contains__(self, attempt: Attempt) -> bool:
        return attempt in self._attempts

    def add(self, attempt: Attempt) -> None:
        self._attempts[attempt] = None
        if attempt.job.crashes:
            self._suspects[attempt] = None
        if self._by_ref is not None and not self._by_ref.add(attempt):
            self._by_ref = None

    def remove(self, attempt: Attempt) -> bool:
        """False if it was let go before: then its end does not count."""
        if attempt not in self._attempts:
            self._stuck.discard(attempt)
            return False
        del self._attempts[attempt]
        if attempt.job.crashes:
            self._suspects.pop(attempt, None)
        if self._by_ref is not None:
            self._by_ref.remove(attempt)
        return True

    def jobs(self) -> Iterator[TakenJob]:
        return (attempt.job for attempt in self._attempts)

    def room(self, taken: Collection[TakenJob]) -> tuple[int, ...]:
        """How many suspects may be taken now, beside those that run and those that are `taken`
        and have not started. See `Demand`."""
        crashes = [attempt.job.crashes for attempt in self._suspects]
        crashes += [job.crashes for job in taken if job.crashes]
        return self._bounds.room(crashes)

    def unite(self, attempts: Sequence[Attempt]) -> None:
        """One call serves all of these now."""
        self._united[attempts[0]] = attempts

    def part(self, attempts: Sequence[Attempt]) -> None:
        """That call is over."""
        self._united.pop(attempts[0], None)

    def blamed_with(self, attempt: Attempt) -> list[TakenJob]:
        """The jobs to blame for what this attempt does: its own, or those of its batch. From any
        thread."""
        # rule:38 what a batch does is blamed on all of its jobs
        return [each.job for each in self._united.get(attempt, (attempt,))]

    def cancel(self, refs: Collection[JobRef]) -> None:
        """A user cancels these jobs. Jobs that do not run here are ignored."""
        if not refs:
            return
        if self._by_ref is None:
            self._by_ref = AttemptsByRef(self._attempts)
        for attempt in self._by_ref.find(refs):
            attempt.stop(Reason.CANCEL)

    def lose(self, queues: Collection[str]) -> int:
        """Stop the attempts in these queues: other workers have their jobs. Returns how many."""
        lost = [attempt for attempt in self._attempts if attempt.job.queue in queues]
        for attempt in lost:
            attempt.stop_again(Reason.LEASE_LOST)
        return len(lost)

    def release(self) -> None:
        """Stop all attempts, to give their jobs back."""
        for attempt in list(self._attempts):
            attempt.stop_again(Reason.SHUTDOWN)

    def abandon(self) -> list[Attempt]:
        """Let go of all attempts, since they swallow their cancellation. Returns them."""
        stuck = list(self._attempts)
        for attempt in stuck:
            logger.error(
                "%s: stuck, it ignores its cancellation", attempt.job.ref, extra=attempt.label
            )
            self.let_go(attempt)
        return stuck

    def stubborn(self, since_s: float) -> list[Attempt]:
        """Attempts that were told to stop at `since_s` or before, and still run.

        Not those in threads: a thread cannot be stopped, and keeps its slot. Not those that a
        shutdown stops: it abandons them by itself.
        """
        return [
            attempt
            for attempt in self._attempts
            if attempt.stopping is not None
            and attempt.stopping.since_s <= since_s
            and attempt.function.isolation.is_cancellable
            and attempt.reason is not Reason.SHUTDOWN
        ]

    def let_go(self, attempt: Attempt) -> None:
        """Free its slot. Its task is kept until it ends: asyncio itself holds tasks only weakly."""
        attempt.let_go()
        if self.remove(attempt):
            self._stuck.add(attempt)

    def find(self, context: JobContext) -> Attempt | None:
        """The attempt with this context, while it holds its slot. From any thread."""
        # A copy, because the loop's thread may change the dict during the search.
        return next(
            (attempt for attempt in list(self._attempts) if attempt.is_about(context)), None
        )

    def in_threads(self) -> list[Attempt]:
        """The attempts of sync functions that have a thread. From any thread."""
        return [
            attempt
            for attempt in list(self._attempts)
            if attempt.function.isolation is Isolation.THREAD and attempt.has_begun
        ]

    def take_notes(self) -> list[tuple[TakenJob, bytes]]:
        """The newest progress of each attempt since the last call."""
        notes = [self._notes.popitem() for _ in range(len(self._notes))]
        if not notes:
            return []
        jobs = {attempt.context: attempt.job for attempt in self._attempts if attempt.has_context}
        return [(jobs[context], note) for context, note in notes if context in jobs]
