"""Events in one queue in memory: those that are kept, and the jobs that wait for one."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from asyncjobs.model.awaiting import Awaited, EventWait, NewEvent, Sent, Waited
from asyncjobs.model.settlement import Settlement, SettlementKind
from asyncjobs.store.memory.news import News
from asyncjobs.store.memory.stored import StoredJob, Wait
from asyncjobs.store.memory.waiting import Waiting
from asyncjobs.store.seam import StoreSettings

__all__ = ["Events"]


_HOW: Final[dict[bytes, Waited]] = {b"e": "come", b"t": "over"}
"""By the first byte of the note of a wait."""


class Kept(NamedTuple):
    """An event that was sent. Ids of events are of one length, so they compare as texts."""

    id: str
    name: str
    key: str
    value: bytes
    token: str
    over_ms: int

    @property
    def sent_ms(self) -> int:
        return int(self.id.partition("-")[0])

    @property
    def size(self) -> int:
        # As a server counts them: with the character between name and key.
        return len(self.name.encode()) + len(self.key.encode()) + 1 + len(self.value)


class Events:
    """Keeps events for a time, and brings them to the jobs that wait.

    A wait stands in its job, so it goes with the job. It works on parts that belong to the queue:
    `jobs` are those that have not ended.
    """

    def __init__(
        self, settings: StoreSettings, jobs: dict[str, StoredJob], waiting: Waiting, news: News
    ) -> None:
        self._settings = settings
        self._jobs = jobs
        self._waiting = waiting
        self._news = news
        self._kept: deque[Kept] = deque()
        self._bytes = 0
        self._last = (0, 0)

    def send(self, event: NewEvent, now: int) -> Sent:
        """See `Backend.send_event`."""
        kept = self._find_again(event) or self._keep(event, now)
        woken = 0
        # Memory is for tests and small apps, so it looks at each job.
        for job in list(self._jobs.values()):
            wait = job.wait
            # rule:31 an event wakes only the jobs that wait for its name and key, in memory
            if wait is None or (wait.name, wait.key) != (event.name, event.key):
                continue
            # rule:31 a job gets an event once, and none after its time-out, in memory
            if wait.until_ms > now and kept.id > wait.after:
                self._bring(job, wait.note, kept)
                woken += 1
                if job.due_ms is not None:
                    self._waiting.remove(job, now)
                    self._news.has_work |= self._waiting.append(job, now)
        self._news.tell()
        return Sent(kept.id, woken)

    @staticmethod
    def delay_ms(job: StoredJob, settlement: Settlement) -> int:
        """How long a job sleeps that is to run again."""
        # rule:31 an event that has come before the job sleeps makes it due at once, in memory
        if settlement.kind is SettlementKind.WAIT and job.wait is None:
            return 0
        return settlement.delay_ms

    def wait(self, job: StoredJob, wait: EventWait, now: int) -> Awaited:
        """See `Lease.await_events`. The job runs."""
        # rule:31 a wait that is asked for again has its old answer, in memory
        written = job.notes.get(wait.note)
        if written is not None:
            return Awaited(_HOW[written[:1]], written[1:])
        until_ms = now + wait.timeout_ms
        before = job.wait
        is_same = before is not None and (before.name, before.key, before.note) == wait[1:4]
        # rule:31 a job that runs again in between goes on with the old end of its wait, in memory
        if before is not None and is_same:
            until_ms = before.until_ms
        kept = self._find(wait, is_same, until_ms, now)
        if kept is not None:
            return Awaited("come", self._bring(job, wait.note, kept))
        if until_ms > now:
            job.wait = Wait(wait.name, wait.key, wait.note, wait.after, until_ms)
            return Awaited("waits", until_ms=until_ms, left_ms=until_ms - now)
        job.wait = None
        job.notes[wait.note] = b"t" + wait.over
        return Awaited("over", wait.over)

    def _bring(self, job: StoredJob, note: str, kept: Kept) -> bytes:
        """Write the event into the note of the job, which waits no more; what is written."""
        written = kept.id.encode() + b" " + kept.value
        job.wait = None
        job.notes[note] = b"e" + written
        return written

    def _find(self, wait: EventWait, has_waited: bool, until_ms: int, now: int) -> Kept | None:
        """The first event behind `wait.after`, of one that `has_waited` if it came in time."""
        for kept in self._kept:
            is_wanted = (kept.name, kept.key) == (wait.name, wait.key)
            if not is_wanted or kept.id <= wait.after or kept.over_ms <= now:
                continue
            # rule:31 an event that comes after the time-out does not count, in memory
            if has_waited and kept.sent_ms >= until_ms:
                break
            return kept
        return None

    def _find_again(self, event: NewEvent) -> Kept | None:
        """The newest event with this name and key, if it has the same token."""
        for kept in reversed(self._kept):
            if (kept.name, kept.key) == (event.name, event.key):
                # rule:4 an event that is sent again is kept once, in memory
                return kept if event.token and kept.token == event.token else None
        return None

    def _keep(self, event: NewEvent, now: int) -> Kept:
        # Also after the clock was set back an event stands behind those before it.
        ms, number = self._last
        self._last = max((now, 0), (ms, number + 1))
        kept = Kept(
            f"{self._last[0]:013d}-{self._last[1]:010d}", *event, now + self._settings.event_ttl_ms
        )
        self._kept.append(kept)
        self._bytes += kept.size
        while len(self._kept) > 1 and self._is_over(now):
            self._bytes -= self._kept.popleft().size
        return kept

    def _is_over(self, now: int) -> bool:
        """Whether the oldest event has to go."""
        settings = self._settings
        # rule:11 the events that a queue keeps are bounded, in memory
        return (
            self._kept[0].over_ms <= now
            or len(self._kept) > settings.event_max_count
            or self._bytes > settings.event_max_bytes
        )
