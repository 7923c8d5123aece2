"""What a queue in memory keeps of leases, jobs and results."""

from __future__ import annotations

from typing import Final, NamedTuple

from asyncjobs.model.job import PROGRESS, Demand, JobRecord, JobRef, NewJob, Notes, State, TakenJob
from asyncjobs.store.activity import KEPT_MINUTES, MINUTE_MS

__all__ = ["Held", "Kept", "Letter", "StoredJob", "SuspectRoom", "Tally", "check_priority"]


class Held:
    """A lease in one queue and the jobs it holds, by serial. Its presence is the fence.

    `marked`: those of its jobs, by id, that somebody wants to stop.
    Exchanges up to `fence` are refused; `applied` is the last one that took effect. Those
    behind a wait are numbered apart, up to `parked`.
    """

    __slots__ = (
        "applied",
        "end_ms",
        "fence",
        "grace_ms",
        "info",
        "jobs",
        "leaves",
        "marked",
        "parked",
    )

    def __init__(self, end_ms: int) -> None:
        self.end_ms = end_ms
        self.grace_ms = 0
        self.fence = self.parked = 0
        self.applied = 0
        self.info = b"{}"
        self.leaves = False
        """Its worker was told to end: its death is no crash."""
        self.jobs: dict[int, StoredJob] = {}
        self.marked: dict[str, StoredJob] = {}

    def begin(self, sequence: int, *, is_parked: bool) -> None:
        """An exchange takes effect."""
        if is_parked:
            self.parked = sequence
        else:
            self.fence = self.applied = sequence


class StoredJob:
    """A job that has not finished. `serial` is its place; a new one at each promotion."""

    __slots__ = (
        "crashes",
        "due_ms",
        "envelope",
        "holder",
        "id",
        "notes",
        "priority",
        "ready_ms",
        "serial",
        "taken_ms",
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
        self.taken_ms = 0
        self.notes: Notes = {}

    @property
    def receipt(self) -> bytes:
        return b"%d" % self.serial

    @property
    def state(self) -> State:
        if self.due_ms is not None:
            return State.SCHEDULED
        return State.READY if self.holder is None else State.RUNNING

    def taken(self, queue: str) -> TakenJob:
        """The job as its holder sees it."""
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

    def record(self, ref: JobRef, *, is_cancelled: bool) -> JobRecord:
        """What is known of the job; `ref` is its own."""
        is_running = self.state is State.RUNNING
        return JobRecord(
            ref,
            self.state,
            self.priority,
            due_ms=self.due_ms,
            envelope=self.envelope,
            progress=self.notes.get(PROGRESS),
            holder=self.holder,
            taken_ms=self.taken_ms if is_running else None,
            is_cancelled=is_running and is_cancelled,
        )


def check_priority(job: NewJob) -> None:
    """Raises ValueError for one that is not 0 to 3."""
    if not 0 <= job.priority <= 3:
        raise ValueError(f"job {job.ref} has the priority {job.priority!r}; use 0 to 3")


class SuspectRoom:
    """How many jobs that were running when a worker died an exchange may hand out yet.

    What is handed out together is blamed together: the one of them with the most crashes
    decides how many they may be.
    """

    __slots__ = ("_by_crashes", "_most", "given")

    def __init__(self, demand: Demand) -> None:
        self._by_crashes = demand.suspects or (0,)
        self._most = self._by_crashes[0]
        self.given = 0

    def left(self, crashes: int) -> int:
        """For suspects with so many crashes."""
        return min(self._most, self._bound(crashes)) - self.given

    def give(self, crashes: int) -> None:
        """One with so many crashes is handed out."""
        # rule:7 of the suspects the one with the most crashes decides, in memory
        self._most = min(self._most, self._bound(crashes))
        self.given += 1

    def _bound(self, crashes: int) -> int:
        return self._by_crashes[min(crashes, len(self._by_crashes)) - 1]


QUIET_MINUTES: Final = 4
"""How long a queue is in use after something has happened in it."""


class Tally:
    """What happened in the last few minutes, in numbers by minute and word."""

    __slots__ = ("counters",)

    def __init__(self) -> None:
        self.counters: dict[tuple[int, str], int] = {}

    def quiet_from_ms(self, now: int) -> int:
        """When nothing will have happened for some minutes; 0 when nothing ever has."""
        # What lies ahead was counted before the clock went back.
        minutes = [minute for minute, _ in self.counters if minute * MINUTE_MS <= now]
        return (max(minutes) + 1 + QUIET_MINUTES) * MINUTE_MS if minutes else 0

    def add(self, now: int, word: str, number: int = 1) -> None:
        """Count; the first of a minute drops what is old."""
        minute = now // MINUTE_MS
        if (minute, word) not in self.counters:
            self.counters = {
                key: value
                for key, value in self.counters.items()
                if 0 <= minute - key[0] < KEPT_MINUTES
            }
        self.counters[minute, word] = self.counters.get((minute, word), 0) + number


class Kept(NamedTuple):
    """An outcome that waiters can still read."""

    state: State
    outcome: bytes


class Letter(NamedTuple):
    """A dead letter, kept for inspection."""

    priority: int
    dead_letter: bytes
    notes: Notes
