"""What a queue in memory keeps of jobs and results."""

from __future__ import annotations

from typing import Final, NamedTuple

from asyncjobs.model.awaiting import awaits
from asyncjobs.model.job import JobRecord, NewJob, State, TakenJob, held_at
from asyncjobs.model.notes import PROGRESS, Notes
from asyncjobs.model.refs import JobRef
from asyncjobs.model.terms import Gate, WhenFull
from asyncjobs.store.activity import KEPT_MINUTES, MINUTE_MS
from asyncjobs.store.memory.lanes import Lane, LimitKey

__all__ = ["Gated", "Kept", "Letter", "StoredJob", "Tally", "Wait", "check_priority", "serial_of"]


class Wait(NamedTuple):
    """How a job waits; see `EventWait`. `until_ms` is the end of the wait."""

    name: str
    key: str
    note: str
    after: str
    until_ms: int

    @property
    def held_by(self) -> str:
        """As a JobRecord says it."""
        return awaits(self.name, self.key)


class Gated:
    """What a job with a gate has besides. `lane` is where it waits, and `permits` are the keys that
    it has a permit of. `when_full` is what counts from now on."""

    __slots__ = ("gate", "lane", "permits", "when_full")

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.when_full: WhenFull = gate.when_full
        self.lane: Lane[StoredJob] | None = None
        self.permits: tuple[LimitKey[StoredJob], ...] = ()


class StoredJob:
    """A job that has not finished. `serial` is its place; a new one at each promotion."""

    __slots__ = (
        "crashes",
        "due_ms",
        "envelope",
        "gated",
        "held_by",
        "held_ms",
        "holder",
        "id",
        "is_marked",
        "notes",
        "priority",
        "ready_ms",
        "serial",
        "taken_ms",
        "wait",
    )

    def __init__(self, id: str, priority: int, envelope: bytes) -> None:
        self.id = id
        self.priority = priority
        self.envelope = envelope
        self.serial = 0
        self.crashes = 0
        self.ready_ms = 0
        self.due_ms: int | None = None
        self.holder: str | None = None
        self.is_marked = False
        """Somebody wants to stop it. That outlives a lease: the next one that takes it is told."""
        self.taken_ms = 0
        self.held_by: str | None = None
        """What has to end before it, as a JobRecord says it."""
        self.held_ms = 0
        """Since when it waits for that."""
        self.notes: Notes = {}
        self.wait: Wait | None = None
        """The event that it waits for."""
        self.gated: Gated | None = None

    @property
    def has_started(self) -> bool:
        """Whether a worker has taken it, now or before."""
        return self.taken_ms > 0

    def call(self, new: NewJob) -> None:
        """Take over the call of a job that was enqueued later."""
        self.priority = new.priority
        self.envelope = new.envelope
        # rule:21 the notes of a job that was dead go with the arguments that it had, in memory
        self.notes = {}

    @property
    def receipt(self) -> bytes:
        return b"%d" % self.serial

    @property
    def seen(self) -> bytes:
        """What names this very stay of a job that waits: its time or its place."""
        if self.held_by is not None:
            return b"%d" % self.held_ms
        if self.due_ms is not None:
            return b"%d" % self.due_ms
        return self.receipt

    @property
    def state(self) -> State:
        if self.held_by is not None:
            return State.HELD
        if self.due_ms is not None:
            return State.SCHEDULED
        return State.READY if self.holder is None else State.RUNNING

    def taken(self, queue: str) -> TakenJob:
        """The job as its worker sees it."""
        return TakenJob(
            queue,
            self.id,
            self.priority,
            self.receipt,
            self.envelope,
            self.crashes,
            self.ready_ms,
            self.holder or "",
        )

    def record(self, ref: JobRef) -> JobRecord:
        """What is known of the job. `ref` is its own."""
        is_running = self.state is State.RUNNING
        return JobRecord(
            ref,
            State.HELD if self.barred_at is not None else self.state,
            self.priority,
            due_ms=self.due_ms,
            envelope=self.envelope,
            progress=self.notes.get(PROGRESS),
            holder=self.holder,
            taken_ms=self.taken_ms if is_running else None,
            is_cancelled=is_running and self.is_marked,
            held_by=self._waits_for(),
        )

    def _waits_for(self) -> str | None:
        if self.wait is not None and self.due_ms is not None:
            return self.wait.held_by
        if (key := self.barred_at) is not None:
            return held_at(*key.name)
        return self.held_by

    @property
    def barred_at(self) -> LimitKey[StoredJob] | None:
        """The key of a limit that it waits for. Its `state` is ready all the same: it has its place
        among the ready jobs, and who acts on those acts on it."""
        if self.gated is None or self.gated.lane is None:
            return None
        return self.gated.lane.barred_at


def serial_of(receipt: bytes) -> int:
    """The serial of the job that was taken with this receipt."""
    return int(receipt)


def check_priority(job: NewJob) -> None:
    """Raises ValueError for a priority that is not 0 to 3."""
    if not 0 <= job.priority <= 3:
        raise ValueError(f"job {job.ref} has the priority {job.priority!r}; use 0 to 3")


QUIET_MINUTES: Final = 4
"""How long a queue counts as used after something has happened in it."""


class Tally:
    """Counts what happened in the last few minutes, by minute and word."""

    __slots__ = ("counters",)

    def __init__(self) -> None:
        self.counters: dict[tuple[int, str], int] = {}

    def quiet_from_ms(self, now: int) -> int:
        """From when on the queue counts as unused; 0 when nothing ever happened in it."""
        # Minutes that lie ahead were counted before the clock was set back.
        minutes = [minute for minute, _ in self.counters if minute * MINUTE_MS <= now]
        if not minutes:
            return 0
        return (max(minutes) + 1 + QUIET_MINUTES) * MINUTE_MS

    def add(self, now: int, word: str, number: int = 1) -> None:
        """Count so many. The first count of a minute drops the old minutes."""
        minute = now // MINUTE_MS
        if (minute, word) not in self.counters:
            self.counters = {
                key: value
                for key, value in self.counters.items()
                if 0 <= minute - key[0] < KEPT_MINUTES
            }
        self.counters[minute, word] = self.counters.get((minute, word), 0) + number


class Kept(NamedTuple):
    """The outcome of a job that has ended, for those who ask for it."""

    state: State
    outcome: bytes


class Letter(NamedTuple):
    """A dead letter, kept for inspection."""

    priority: int
    dead_letter: bytes
    notes: Notes

    @property
    def size(self) -> int:
        """The bytes that it counts for, with the notes of its job."""
        # rule:11 the notes of a dead letter count as its bytes, in memory
        notes = sum(
            len(name.encode("utf-8", "surrogatepass")) + len(value)
            for name, value in self.notes.items()
        )
        return len(self.dead_letter) + notes
