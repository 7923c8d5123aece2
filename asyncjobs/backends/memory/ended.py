"""What a queue in memory keeps of jobs that have ended: ids, results, dead letters."""

from __future__ import annotations

from asyncjobs.backends.base import StoreSettings
from asyncjobs.backends.memory.stored import Kept, Letter
from asyncjobs.backends.memory.structures import Timed
from asyncjobs.job import JobRecord, JobRef, State

__all__ = ["Ended"]


class Ended:
    """Each of the three has a time of its own, after which it is gone."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._known: Timed[State] = Timed()
        self._results: Timed[Kept] = Timed()
        self._dead: Timed[Letter] = Timed()

    @property
    def dead(self) -> int:
        """How many dead letters there are."""
        return len(self._dead)

    def knows(self, id: str, now: int) -> bool:
        """Whether a job with this id has finished lately."""
        return self._known.after(id, now) is not None

    def put(self, id: str, state: State, outcome: bytes | None, ttl_ms: int, now: int) -> None:
        """Remember that the job is final, and its outcome for `ttl_ms`."""
        self.forget(now)
        self._known.put(id, now + self._settings.id_ttl_ms, state)
        # Also without a new outcome: that of an earlier job with this id is not its own.
        self._results.pop(id)
        if outcome is not None and ttl_ms > 0:
            self._results.put(id, now + ttl_ms, Kept(state, outcome))

    def bury(self, id: str, priority: int, dead_letter: bytes, now: int) -> None:
        """Keep a dead letter."""
        self._dead.put(id, now, Letter(priority, dead_letter))

    def record(self, ref: JobRef, now: int) -> JobRecord | None:
        """What is known of a job that does not live any more, None when nothing is."""
        kept, letter = self._results.after(ref.id, now), self._dead.get(ref.id)
        known = self._known.after(ref.id, now)
        if known is None and kept is None and letter is None:
            return None
        state = known or (kept.state if kept is not None else State.DEAD)
        outcome = None if kept is None else kept.outcome
        if letter is None:
            return JobRecord(ref, state, outcome=outcome)
        return JobRecord(
            ref, state, letter.priority, outcome=outcome, dead_letter=letter.dead_letter
        )

    def prune(self, limit: int, now: int) -> int:
        """Drop dead letters over their age or number; returns how many."""
        oldest = now - self._settings.dead_max_age_ms
        dropped = 0
        while dropped < limit and (died := self._dead.first_ms()) is not None:
            if died >= oldest and len(self._dead) <= self._settings.dead_max_count:
                break
            self._dead.pop_first()
            dropped += 1
        return dropped

    def forget(self, now: int) -> None:
        """Drop ids and results whose time has come."""
        self._known.drop_until(now)
        self._results.drop_until(now)
