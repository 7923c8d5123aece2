"""What a queue in memory keeps of jobs that have ended: ids, results, dead letters."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import nlargest, nsmallest

from asyncjobs.model.ids import id_bytes
from asyncjobs.model.job import JobRecord, Priority, State
from asyncjobs.model.notes import Notes
from asyncjobs.model.refs import JobRef
from asyncjobs.store.letters import (
    MAX_PAGE,
    MAX_PAGE_BYTES,
    DeadLetter,
    LetterKey,
    LetterPage,
    LetterQuery,
    cut_letter,
)
from asyncjobs.store.memory.stored import Kept, Letter, StoredJob
from asyncjobs.store.memory.structures import Timed
from asyncjobs.store.seam import StoreSettings

__all__ = ["Ended"]


class Ended:
    """Owns them. Ids and results go after a time, letters also when they are too many."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._known: Timed[State] = Timed()
        self._results: Timed[Kept] = Timed()
        self._dead: Timed[Letter] = Timed()
        self._dead_bytes = 0

    @property
    def dead(self) -> int:
        """How many dead letters are kept."""
        return len(self._dead)

    @property
    def known_until_ms(self) -> int:
        """Until when the last id is remembered; 0 when none is."""
        return max((ms for ms, _ in self._known.times()), default=0)

    def has_results(self, now: int) -> bool:
        """Whether outcomes are kept that somebody may still ask for."""
        self.forget(now)
        return self._results.first_ms() is not None

    def knows(self, id: str, now: int) -> bool:
        """Whether a job with this id has ended lately."""
        return self._known.after(id, now) is not None

    def put(self, id: str, state: State, outcome: bytes | None, ttl_ms: int, now: int) -> None:
        """Remember that the job is final, and its outcome for `ttl_ms`."""
        # Each job that ends drops the old ones, so a queue without a prune stays small, too.
        self.forget(now)
        self._known.put(id, now + self._settings.id_ttl_ms, state)
        if outcome is not None and ttl_ms > 0:
            self._results.put(id, now + ttl_ms, Kept(state, outcome))

    def drop_result(self, id: str) -> None:
        """The id is used again: who waits for the new job must not get the result of the old
        one."""
        self._results.pop(id)

    def bury(self, job: StoredJob, dead_letter: bytes, now: int) -> None:
        """Keep the dead letter of a job, and its notes."""
        self._drop(self._dead.pop(job.id))
        letter = Letter(job.priority, dead_letter, job.notes)
        self._dead.put(job.id, now, letter)
        self._dead_bytes += letter.size

    def record(self, ref: JobRef, now: int) -> JobRecord | None:
        """What is known of a job that has ended, None when nothing is."""
        kept = self._results.after(ref.id, now)
        letter = self._dead.get(ref.id)
        state = self._known.after(ref.id, now)
        outcome = None
        if state not in (None, State.DEAD):
            # It is the letter of an earlier job with this id.
            letter = None
        if kept is not None:
            state = state or kept.state
            outcome = kept.outcome
        if letter is not None:
            state = state or State.DEAD
        if state is None:
            return None
        if letter is None:
            return JobRecord(ref, state, outcome=outcome)
        return JobRecord(
            ref, state, letter.priority, outcome=outcome, dead_letter=letter.dead_letter
        )

    def letters(self, query: LetterQuery, after: LetterKey | None, now: int) -> LetterPage:
        """One page of dead letters; see `DeadLetters.page`."""
        since_ms = -1
        if query.since_ms is not None:
            since_ms = query.since_ms
        # Letters of one moment are in the order of their bytes, as a server has them.
        places = [
            (died_ms, id_bytes(id), id)
            for died_ms, id in self._dead.times()
            if died_ms >= since_ms and (query.before_ms is None or died_ms < query.before_ms)
        ]
        total = len(places)
        if after is not None:
            begin = (after.died_ms, id_bytes(after.ref.id), after.ref.id)
            if query.oldest_first:
                places = [place for place in places if place > begin]
            else:
                places = [place for place in places if place < begin]
        choose = nsmallest if query.oldest_first else nlargest
        letters: list[DeadLetter] = []
        size = 0
        for died_ms, _, id in choose(min(query.limit, MAX_PAGE), places):
            if size >= MAX_PAGE_BYTES:
                break
            key = LetterKey(JobRef(query.queue, id), died_ms)
            letters.append(self._letter(key, query.cut))
            size += letters[-1].size
        next_page = None
        if letters and len(letters) < len(places):
            next_page = letters[-1].key
        return LetterPage(letters, next_page, total, now)

    def notes(self, id: str) -> Notes:
        """The notes of a dead job."""
        letter = self._dead.get(id)
        if letter is None:
            return {}
        return dict(letter.notes)

    def all_letters(self) -> Iterator[tuple[int, str, Letter]]:
        """When each dead job died, its id, and its letter, in any order."""
        for died_ms, id in self._dead.times():
            letter = self._dead.get(id)
            assert letter is not None
            yield died_ms, id, letter

    def find_letter(self, ref: JobRef, cut: int | None) -> DeadLetter | None:
        """The job's dead letter, None without one."""
        died_ms = self._dead.time_of(ref.id)
        return None if died_ms is None else self._letter(LetterKey(ref, died_ms), cut)

    def _letter(self, key: LetterKey, cut: int | None) -> DeadLetter:
        stored = self._dead.get(key.ref.id)
        assert stored is not None
        priority, letter, _ = stored
        return DeadLetter(key, Priority(priority), cut_letter(letter, cut), len(letter))

    def purge(self, key: LetterKey) -> bool:
        """Drop the letter of this death; False when there is none."""
        return self._pop_letter(key) is not None

    def revive(self, key: LetterKey) -> Letter | None:
        """Forget everything about this death; its letter. None, and no effect, without one."""
        letter = self._pop_letter(key)
        if letter is not None:
            self._known.pop(key.ref.id)
            self._results.pop(key.ref.id)
        return letter

    def has_letter(self, key: LetterKey) -> bool:
        """Whether the letter of this very death is there."""
        return self._dead.time_of(key.ref.id) == key.died_ms

    def _pop_letter(self, key: LetterKey) -> Letter | None:
        if not self.has_letter(key):
            return None
        return self._drop(self._dead.pop(key.ref.id))

    def _drop(self, letter: Letter | None) -> Letter | None:
        """Count out a letter that was removed, if there was one."""
        if letter is not None:
            self._dead_bytes -= letter.size
        return letter

    def prune(self, limit: int, now: int) -> int:
        """Drop what nobody can ask for, and dead letters over their age, number or bytes;
        returns how many letters."""
        self.forget(now)
        dropped = 0
        while dropped < limit and self._is_over(now):
            self._drop(self._dead.pop_first())
            dropped += 1
        return dropped

    def _is_over(self, now: int) -> bool:
        """Whether the oldest dead letter has to go."""
        settings = self._settings
        died_ms = self._dead.first_ms()
        if died_ms is None:
            return False
        return (
            died_ms < now - settings.dead_max_age_ms
            or len(self._dead) > settings.dead_max_count
            or self._dead_bytes > settings.dead_max_bytes
        )

    def pull_back(self, from_ms: int, by_ms: int) -> None:
        """The clock has gone back: keep nothing for longer than it was meant to stay."""
        self._known.pull_back(from_ms, by_ms)
        self._results.pull_back(from_ms, by_ms)

    def forget(self, now: int) -> None:
        """Drop ids and results whose time has come."""
        self._known.drop_until(now)
        self._results.drop_until(now)
